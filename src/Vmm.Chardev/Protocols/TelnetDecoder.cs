namespace Vmm.Chardevs;

/// <summary>
/// Takes the telnet commands (RFC 854) out of a received stream. The state survives any split of the stream. Options that the client
/// offers or refuses are not answered: what matters was announced at the start of the connection.
/// </summary>
public struct TelnetDecoder
{
    private const byte Iac = 255;
    private const byte Break = 243;
    private const byte SubBegin = 250;
    private const byte SubEnd = 240;
    private const byte FirstOption = 251;

    private State _state;

    private enum State : byte
    {
        Data,
        Command,
        Option,
        Sub,
        SubCommand,
    }

    /// <summary>
    /// What a server sends first: will echo, will suppress go-ahead, will and please do binary (RFC 857, 858, 856).
    /// </summary>
    public static ReadOnlySpan<byte> Greeting => [Iac, 251, 1, Iac, 251, 3, Iac, 251, 0, Iac, 253, 0];

    /// <summary>
    /// Compacts the data bytes of <paramref name="buffer"/> to its front and returns their number.
    /// </summary>
    /// <param name="buffer">Received bytes, overwritten.</param>
    /// <param name="breaks">Number of break commands among them.</param>
    public int Decode(Span<byte> buffer, out int breaks)
    {
        breaks = 0;
        int kept = 0;
        foreach (byte b in buffer)
        {
            switch (_state)
            {
                case State.Data when b != Iac:
                    buffer[kept++] = b;
                    break;
                case State.Data:
                    _state = State.Command;
                    break;
                case State.Command when b == Iac:
                    buffer[kept++] = b;
                    _state = State.Data;
                    break;
                case State.Command:
                    breaks += b == Break ? 1 : 0;
                    _state = b >= FirstOption ? State.Option : b == SubBegin ? State.Sub : State.Data;
                    break;
                case State.Option:
                    _state = State.Data;
                    break;
                case State.Sub:
                    _state = b == Iac ? State.SubCommand : State.Sub;
                    break;
                case State.SubCommand:
                    _state = b == SubEnd ? State.Data : State.Sub;
                    break;
            }
        }

        return kept;
    }
}
