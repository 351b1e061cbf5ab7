using System.Text;
using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.System.CommandLine;

namespace Vmm.Fuzz.Tests.Parsing;

/// <summary>
/// Option texts: flat options, dotted keys, configuration files and whole command lines. The input is a command line with an argument
/// per line; -readconfig reads the input itself.
/// </summary>
internal sealed class OptionsTarget : FuzzTarget
{
    private static readonly OptionGroup s_any = new("any", "driver", mergeLists: false);

    private static readonly OptionGroup s_typed = new(
        "typed",
        "text",
        mergeLists: true,
        new OptionDescriptor("text", OptionType.String),
        new OptionDescriptor("on", OptionType.Boolean),
        new OptionDescriptor("number", OptionType.Number),
        new OptionDescriptor("size", OptionType.Size));

    public override string Name => "options";

    public override int Iterations => 6000;

    public override int MaxLength => 1024;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words(
        "-m\n", "-smp\n", "-machine\n", "-object\n", "-device\n", "-chardev\n", "-mon\n", "-qmp\n", "-serial\n", "-readconfig\nx\n", "-set\n",
        "-global\n", "-rtc\n", "-boot\n", "-name\n", "-add-fd\n", "-fw_cfg\n", "-accel\n", "-cpu\n", "-d\n", "-trace\n", "-msg\n", "-action\n",
        "-uuid\n", "-nographic\n", "-parallel\n", "-monitor\n", "-debugcon\n", "-overcommit\n", "-nodefaults\n", "\n", ",", ",,", "=", ".", ".0",
        ".1=", "help", "?", "id=", "on", "off", "no", "=on", "size=", "1G", "0x", "1e3", "18446744073709551615", "-1", "a.b.c=", "{\"driver\":",
        "\"}", "tcp:", "unix:", "udp:", "telnet:", "stdio", "mon:", "vc:", "pty", "none", "server=on,wait=off", "[machine]\n", "type = \"pc\"\n",
        "[chardev \"c\"]\n", "maxmem=", "slots=", "cpus=", "sockets=", "base=utc", "2000-02-30", "\u00e9", "\0");

    public override long AllocationLimit(int inputLength) => 512 * 1024 + (8192L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        string text = Encoding.UTF8.GetString(input);
        return (input.Length == 0 ? 0 : input[0] & 3) switch
        {
            0 => Opts(text, s_any) + Opts(text, s_typed),
            1 => Keyval(text),
            2 => Config(text),
            _ => "",
        } + CommandLine(text);
    }

    private static string Opts(string text, OptionGroup group)
    {
        try
        {
            var list = new OptsList(group);
            QemuOpts? opts = OptsParser.Parse(list, text, implied: true, null, SilentOptionDiagnostics.Instance);
            _ = OptsParser.HasHelp(text);
            _ = opts?.ToDict().ToJson();
            _ = opts?.ToRepeatedDict().ToJson();
            return opts == null ? "help" : "opts";
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }
    }

    private static string Keyval(string text)
    {
        try
        {
            QDict dict = KeyvalParser.Parse(text, "type", out bool help);
            KeyvalParser.Dashify(dict);
            KeyvalParser.Merge(dict, KeyvalParser.Parse(text, "type", out _));
            _ = dict.ToJson();
            return help ? "help" : "dict";
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }
    }

    private static string Config(string text)
    {
        try
        {
            string outcome = "";
            foreach (ConfigGroup group in ConfigFileParser.Parse(text))
            {
                outcome += group.Name;
                _ = KeyvalParser.Crumple(group.Values).ToJson();
            }

            return outcome;
        }
        catch (ConfigFileException e)
        {
            return Shape(e.Message);
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }
    }

    private static string CommandLine(string text)
    {
        var environment = new CommandLineEnvironment
        {
            ReadFile = (string path, out string reason) =>
            {
                reason = "No such file or directory";
                return path == "x" ? text : null;
            },
        };
        CommandLineResult result = CommandLineParser.Parse(text.TrimEnd('\n').Split('\n'), environment);
        if (result.Help != null)
        {
            return "help";
        }

        if (result.Configuration is not { } configuration)
        {
            Require(result.Diagnostics.Count > 0, "neither a configuration nor an error");
            return Shape(result.Diagnostics[^1].ToString()!);
        }

        try
        {
            Resolve(configuration);
            return "configuration";
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }
    }

    private static void Resolve(VmConfiguration c)
    {
        _ = MemoryConfiguration.Resolve(c.Machine.Memory, 128 << 20, SilentOptionDiagnostics.Instance);
        _ = SmpConfiguration.Resolve(c.Machine.Smp, new SmpRules("pc", 255, HasDies: true), SilentOptionDiagnostics.Instance);
        _ = BootConfiguration.Resolve(c.Machine.Boot);
        c.Backends.AddDefaults(machineHasSerial: true, c.Nographic, c.Daemonize);
        _ = c.Backends.ResolveMonitors();
        _ = c.Backends.ResolveSerials();
        _ = c.Backends.ResolveDebugConsoles();
    }
}
