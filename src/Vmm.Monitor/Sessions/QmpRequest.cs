using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>A value that a client sent, or the error in its place.</summary>
/// <param name="Value">The value; null for an error.</param>
/// <param name="Error">The error; null for a value.</param>
/// <param name="FirstChunk">Number of the chunk of input in which the value began: descriptors that came with it or later ones are its own.</param>
/// <param name="LastChunk">Number of the chunk in which it ended.</param>
internal readonly record struct QmpRequest(QValue? Value, QapiException? Error, long FirstChunk, long LastChunk)
{
    public QValue? Id => Value is QDict dict && dict.TryGetValue("id", out QValue? id) ? id : null;

    /// <summary>Whether the request asks not to be queued behind others.</summary>
    public bool IsOutOfBand => Value is QDict dict && dict.ContainsKey("exec-oob") && !dict.ContainsKey("execute");

    /// <summary>Checks the envelope.</summary>
    /// <exception cref="QapiException">It is malformed.</exception>
    public static (string Command, QDict? Arguments, bool OutOfBand) Unwrap(QValue request, bool allowOutOfBand)
    {
        if (request is not QDict dict)
        {
            throw new QapiException("QMP input must be a JSON object");
        }

        string? command = null;
        string key = "";
        QDict? arguments = null;
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            switch (member.Key)
            {
                case "exec-oob" when !allowOutOfBand:
                    throw new QapiException("QMP input member 'exec-oob' is unexpected");
                case "execute" or "exec-oob":
                    string name = (member.Value as QString)?.Value
                        ?? throw new QapiException($"QMP input member '{member.Key}' must be a string");
                    if (command != null)
                    {
                        throw new QapiException($"QMP input member '{member.Key}' clashes with '{key}'");
                    }

                    command = name;
                    key = member.Key;
                    break;
                case "arguments":
                    arguments = member.Value as QDict ?? throw new QapiException("QMP input member 'arguments' must be an object");
                    break;
                case "id":
                    break;
                default:
                    throw new QapiException($"QMP input member '{member.Key}' is unexpected");
            }
        }

        return command != null
            ? (command, arguments, key == "exec-oob")
            : throw new QapiException("QMP input lacks member 'execute'");
    }
}
