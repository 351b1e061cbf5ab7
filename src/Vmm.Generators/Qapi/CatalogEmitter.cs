using System.Collections.Generic;
using System.Linq;

namespace Vmm.Generators.Qapi;

/// <summary>The catalogue class of an assembly.</summary>
internal static class CatalogEmitter
{
    private const string Q = QapiExpressions.Q;
    private const string ValueTask = "global::System.Threading.Tasks.ValueTask";

    public static string Emit(
        string assembly, IReadOnlyList<CommandModel> qmp, IReadOnlyList<CommandModel> hmp, IReadOnlyList<EventReference> events)
    {
        CodeWriter w = CodeWriter.ForFile();
        w.Line($"namespace {assembly};");
        w.Line();
        w.Line("/// <summary>Registers the commands and events that this assembly declares.</summary>");
        w.Open($"public static partial class {assembly.Substring(assembly.LastIndexOf('.') + 1)}Catalog");
        if (qmp.Count > 0 || events.Count > 0)
        {
            EmitRegister(w, qmp, events);
        }

        if (hmp.Count > 0)
        {
            EmitRegisterHmp(w, hmp);
        }

        foreach (CommandModel command in qmp)
        {
            EmitInvoke(w, command);
            EmitSchemas(w, command);
        }

        foreach (CommandModel command in hmp)
        {
            EmitHmpInvoke(w, command);
        }

        w.Close();
        return w.ToString();
    }

    private static List<(string Type, string Name)> Instances(IEnumerable<CommandModel> commands) => commands
        .Where(c => !c.IsStatic)
        .Select(c => (c.ContainingType, Naming.Camel(c.ContainingName)))
        .Distinct()
        .OrderBy(i => i.ContainingType, System.StringComparer.Ordinal)
        .ToList();

    private static void EmitRegister(CodeWriter w, IReadOnlyList<CommandModel> qmp, IReadOnlyList<EventReference> events)
    {
        List<(string Type, string Name)> instances = Instances(qmp);
        string parameters = string.Concat(instances.Select(i => $", {i.Type} {i.Name}"));
        w.Line("/// <summary>Registers everything.</summary>");
        w.Open($"{Access(qmp)} static void Register({Q}CommandTable table{parameters})");
        if (qmp.Any(c => c.IsStatic))
        {
            w.Line("RegisterStatic(table);");
        }

        foreach ((string type, string name) in instances)
        {
            w.Line($"Register{Simple(type)}(table, {name});");
        }

        if (events.Count > 0)
        {
            w.Line("RegisterEvents(table);");
        }

        w.Close();
        w.Line();
        if (qmp.Any(c => c.IsStatic))
        {
            w.Line("/// <summary>Registers the commands that need no instance.</summary>");
            w.Open($"public static void RegisterStatic({Q}CommandTable table)");
            foreach (CommandModel command in qmp.Where(c => c.IsStatic))
            {
                EmitEntry(w, command, "static ", "");
            }

            w.Close();
            w.Line();
        }

        foreach ((string type, string name) in instances)
        {
            w.Line($"/// <summary>Registers the commands of <see cref=\"{type}\"/>.</summary>");
            string access = Access(qmp.Where(c => c.ContainingType == type));
            w.Open($"{access} static void Register{Simple(type)}({Q}CommandTable table, {type} {name})");
            foreach (CommandModel command in qmp.Where(c => !c.IsStatic && c.ContainingType == type))
            {
                EmitEntry(w, command, "", name + ", ");
            }

            w.Close();
            w.Line();
        }

        if (events.Count > 0)
        {
            w.Line("/// <summary>Registers the events.</summary>");
            w.Open($"public static void RegisterEvents({Q}CommandTable table)");
            foreach (EventReference reference in events)
            {
                w.Line($"table.AddEvent({reference.FullName}.QmpEventInfo);");
            }

            w.Close();
            w.Line();
        }
    }

    private static string Access(IEnumerable<CommandModel> commands) =>
        commands.All(c => c.IsStatic || c.IsPublic) ? "public" : "internal";

    private static void EmitEntry(CodeWriter w, CommandModel c, string modifier, string target)
    {
        w.Open($"table.Add(new {Q}CommandEntry");
        w.Line($"Name = {Naming.Literal(c.Name)},");
        Property(w, "ArgsType", c.ArgsType);
        Flag(w, "AllowOob", c.AllowOob);
        Flag(w, "AllowPreconfig", c.AllowPreconfig);
        if (!c.SuccessResponse)
        {
            w.Line("SuccessResponse = false,");
        }

        Property(w, "Since", c.Since);
        Property(w, "Doc", c.Doc);
        if (c.Features.Count > 0)
        {
            w.Line($"Features = {QapiExpressions.StringArray(c.Features)},");
        }

        string method = Naming.Pascal(c.Name);
        if (HasArgSchema(c))
        {
            w.Line($"ArgSchema = {method}Arguments,");
        }

        if (c.RetSchema != null || c.Result != null)
        {
            w.Line($"RetSchema = static () => {c.RetSchema ?? QapiExpressions.Schema(c.Result!)},");
        }

        w.Line($"Invoke = {modifier}(args, session, result) => {method}({target}args, session, result),");
        w.Close(");");
    }

    private static bool HasArgSchema(CommandModel c) =>
        c.ArgSchema != null || c.Parameters.Any(p => p.Role is ParameterRole.Member or ParameterRole.Boxed);

    private static void Property(CodeWriter w, string name, string value)
    {
        if (value.Length > 0)
        {
            w.Line($"{name} = {Naming.Literal(value)},");
        }
    }

    private static void Flag(CodeWriter w, string name, bool value)
    {
        if (value)
        {
            w.Line($"{name} = true,");
        }
    }

    private static void EmitInvoke(CodeWriter w, CommandModel c)
    {
        string target = c.IsStatic ? "" : c.ContainingType + " target, ";
        string async = c.Completion == Completion.Synchronous ? "" : "async ";
        string signature = $"{target}{Q}QDict args, {Q}IMonitorSession session, {Q}JsonWriter result";
        w.Open($"private static {async}{ValueTask} {Naming.Pascal(c.Name)}({signature})");
        string call = EmitCall(w, c);
        if (c.Result == null)
        {
            w.Line(call + ";");
            if (!c.Parameters.Any(p => p.Role == ParameterRole.Writer))
            {
                w.Line("result.WriteStartObject();");
                w.Line("result.WriteEndObject();");
            }
        }
        else
        {
            w.Line($"{c.Result.Name} value = {call};");
            QapiExpressions.Write(w, c.Result, "value", "result");
        }

        if (async.Length == 0)
        {
            w.Line("return default;");
        }

        w.Close();
        w.Line();
    }

    private static void EmitHmpInvoke(CodeWriter w, CommandModel c)
    {
        string target = c.IsStatic ? "" : c.ContainingType + " target, ";
        string async = c.Completion == Completion.Synchronous ? "" : "async ";
        w.Open($"private static {async}{ValueTask} Hmp{HmpMethod(c)}({target}{Q}HmpContext context, {Q}QDict args)");
        string call = EmitCall(w, c);
        w.Line(call + ";");
        if (async.Length == 0)
        {
            w.Line("return default;");
        }

        w.Close();
        w.Line();
    }

    private static string EmitCall(CodeWriter w, CommandModel c)
    {
        w.Line($"{Q}QapiReader reader = {Q}QapiReader.ForArguments(args);");
        var arguments = new List<string>();
        foreach (ParameterModel parameter in c.Parameters)
        {
            string local = "m" + arguments.Count;
            switch (parameter.Role)
            {
                case ParameterRole.Session:
                    local = c.IsHmp ? "context.Session" : "session";
                    break;
                case ParameterRole.Writer:
                    local = "result";
                    break;
                case ParameterRole.HmpContext:
                    local = "context";
                    break;
                case ParameterRole.HmpFormat:
                    string name = Naming.Literal(parameter.Member!.WireName);
                    w.Line($"{Q}HmpFormat {local} = {Q}HmpFormat.FromValue(reader.Required({name}));");
                    break;
                case ParameterRole.Boxed:
                    w.Line($"{parameter.Member!.Type.Name} {local} = {parameter.Member.Type.Name}.QapiReadMembers(reader);");
                    break;
                case ParameterRole.Rest:
                    w.Line($"{Q}QDict {local} = reader.Rest();");
                    break;
                default:
                    w.Line(QapiExpressions.ReadMember(parameter.Member!, local));
                    break;
            }

            arguments.Add(local);
        }

        w.Line("reader.EndArguments();");
        string receiver = c.IsStatic ? c.ContainingType : "target";
        string await = c.Completion == Completion.Synchronous ? "" : "await ";
        return $"{await}{receiver}.{c.MethodName}({string.Join(", ", arguments)})";
    }

    private static void EmitSchemas(CodeWriter w, CommandModel c)
    {
        if (!HasArgSchema(c))
        {
            return;
        }

        string method = Naming.Pascal(c.Name);
        ParameterModel? boxed = c.Parameters.FirstOrDefault(p => p.Role == ParameterRole.Boxed);
        string? whole = c.ArgSchema ?? (boxed == null ? null : QapiExpressions.Schema(boxed.Member!.Type));
        if (whole != null)
        {
            w.Line($"private static {Q}SchemaType {method}Arguments() => {whole};");
            w.Line();
            return;
        }

        w.Line($"private static {Q}SchemaType {method}Arguments() => new {Q}SchemaObject(");
        w.Line("[");
        foreach (ParameterModel parameter in c.Parameters.Where(p => p.Role == ParameterRole.Member))
        {
            w.Line($"    {QapiExpressions.SchemaMember(parameter.Member!)},");
        }

        w.Line("]);");
        w.Line();
    }

    private static void EmitRegisterHmp(CodeWriter w, IReadOnlyList<CommandModel> hmp)
    {
        string parameters = string.Concat(Instances(hmp).Select(i => $", {i.Type} {i.Name}"));
        w.Line("/// <summary>Registers the HMP commands.</summary>");
        w.Open($"{Access(hmp)} static void RegisterHmp({Q}HmpTable table{parameters})");
        foreach (CommandModel c in hmp)
        {
            int space = c.Name.IndexOf(' ');
            w.Open($"table.Add(new {Q}HmpEntry");
            w.Line($"Names = {Naming.Literal(c.Name.Substring(space + 1))},");
            Property(w, "Group", space < 0 ? "" : c.Name.Substring(0, space));
            Property(w, "ArgsType", c.ArgsType);
            Property(w, "Params", c.Params);
            Property(w, "Help", c.Help);
            Flag(w, "AllowPreconfig", c.AllowPreconfig);
            string modifier = c.IsStatic ? "static " : "";
            string target = c.IsStatic ? "" : Naming.Camel(c.ContainingName) + ", ";
            w.Line($"Invoke = {modifier}(context, args) => Hmp{HmpMethod(c)}({target}context, args),");
            w.Close(");");
        }

        w.Close();
        w.Line();
    }

    private static string HmpMethod(CommandModel c) => Naming.Pascal(c.Name.Split('|')[0]);

    private static string Simple(string qualifiedType) => qualifiedType.Substring(qualifiedType.LastIndexOf('.') + 1).Replace("global::", "");
}
