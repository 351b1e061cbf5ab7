using System.Runtime.ExceptionServices;
using Vmm.Qapi;

namespace Vmm.Monitor;

public sealed partial class QmpSession
{
    /// <summary>Runs the oldest queued request.</summary>
    /// <returns>Null when it has ended, else the running command; <see cref="EndRequest"/> is due when it has ended.</returns>
    internal Task? ExecuteNext()
    {
        QmpRequest request = _queue.Dequeue();
        return Execute(request, _result, outOfBand: false);
    }

    /// <summary>Sends what a finished request has written and goes on with input.</summary>
    internal void EndRequest()
    {
        if (!_consuming)
        {
            Flush();
            ContinueInput();
        }
    }

    private void ExecuteOutOfBand(in QmpRequest request)
    {
        QmpRequest current = _current;
        _ = Execute(request, new JsonWriter(_pretty, initialDepth: 1), outOfBand: true);
        _current = current;
    }

    private Task? Execute(in QmpRequest request, JsonWriter result, bool outOfBand)
    {
        _current = request;
        DropFdsBefore(request.FirstChunk);
        QValue? id = request.Id;
        int connection = _connection;
        if (request.Error != null)
        {
            RespondError(request.Error, null, connection);
            return null;
        }

        try
        {
            (string name, QDict? arguments, bool asOutOfBand) = QmpRequest.Unwrap(request.Value!, _oobEnabled);
            CommandEntry command = Find(name, asOutOfBand);
            result.Reset();
            ValueTask running = command.Invoke(arguments ?? s_noArguments, this, result);
            if (!running.IsCompleted)
            {
                return Finish(running, command, result, id, connection, outOfBand);
            }

            running.GetAwaiter().GetResult();
            Respond(command, result, id, connection);
        }
        catch (QapiException error)
        {
            RespondError(error, id, connection);
        }

        return null;
    }

    private async Task Finish(ValueTask running, CommandEntry command, JsonWriter result, QValue? id, int connection, bool outOfBand)
    {
        try
        {
            await running.ConfigureAwait(true);
            await Core.Loop.SwitchTo();
            Respond(command, result, id, connection);
        }
        catch (QapiException error)
        {
            await Core.Loop.SwitchTo();
            RespondError(error, id, connection);
        }
        catch (Exception bug)
        {
            // An escaped exception of a callback ends the process; here it would be lost in the task.
            Core.Loop.Post(() => ExceptionDispatchInfo.Throw(bug));
        }

        if (outOfBand && !_consuming)
        {
            Flush();
        }
    }

    private CommandEntry Find(string name, bool outOfBand)
    {
        if (!IsNegotiated && name != "qmp_capabilities")
        {
            throw new QapiException(
                QapiErrorClass.CommandNotFound, "Expecting capabilities negotiation with 'qmp_capabilities'");
        }

        if (!Core.Table.TryGet(name, out CommandEntry? command))
        {
            throw QapiException.CommandNotFound(name);
        }

        if (command.DisabledReason is { } reason)
        {
            throw new QapiException(
                QapiErrorClass.CommandNotFound, $"Command {name} has been disabled{(reason.Length > 0 ? ": " : "")}{reason}");
        }

        if (outOfBand && !command.AllowOob)
        {
            throw new QapiException($"The command {name} does not support OOB");
        }

        if (!command.AllowPreconfig && Core.IsPreconfig)
        {
            throw new QapiException($"The command '{name}' is permitted only after machine initialization has completed");
        }

        return command;
    }

    private void Respond(CommandEntry command, JsonWriter result, QValue? id, int connection)
    {
        if (!command.SuccessResponse || connection != _connection)
        {
            return;
        }

        JsonWriter w = _message;
        w.Reset();
        w.WriteStartObject();
        w.WriteName("return"u8);
        w.WriteRaw(result.WrittenSpan);
        if (id != null)
        {
            w.WriteName("id"u8);
            w.WriteValue(id);
        }

        w.WriteEndObject();
        Send();
        result.Reset();
    }

    private void RespondError(QapiException error, QValue? id, int connection)
    {
        if (connection != _connection)
        {
            return;
        }

        JsonWriter w = _message;
        w.Reset();
        w.WriteStartObject();
        if (id != null)
        {
            w.WriteName("id"u8);
            w.WriteValue(id);
        }

        w.WriteName("error"u8);
        w.WriteStartObject();
        w.WriteName("class"u8);
        w.WriteAscii(QapiException.WireName(error.ErrorClass));
        w.WriteName("desc"u8);
        w.WriteString(error.Desc);
        w.WriteEndObject();
        w.WriteEndObject();
        Send();
    }

    private void Send()
    {
        _message.WriteLiteral("\r\n"u8);
        Output.Append(_message.WrittenSpan);
    }
}
