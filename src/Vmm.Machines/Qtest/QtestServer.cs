using System.Globalization;
using System.Text;
using Vmm.Devices;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;

namespace Vmm.Machines.Qtest;

/// <summary>
/// The qtest protocol: text lines that access ports and memory as CPU 0 would, step the virtual clock and watch interrupt pins.
/// At most one server exists in a process. Home: the main loop under the machine lock.
/// </summary>
/// <remarks>
/// The reader of requests is a function of the bytes alone: how they are split does not matter, and whatever they are, the answer
/// is a line that begins with OK, FAIL or ERR.
/// </remarks>
public sealed partial class QtestServer : ICharHandler, IDisposable
{
    private const int MaxLine = 64 << 20;
    private const int ChunkSize = 4096;

    private readonly CharFrontend _frontend;
    private readonly QomTree _tree;
    private readonly Clocks _clocks;
    private readonly AddressSpace _memory;
    private readonly AddressSpace _ports;
    private readonly bool _hasClockCommands;
    private readonly Action<string>? _log;
    private readonly QtestLineBuffer _lines = new(MaxLine);
    private readonly bool[] _reportedLevels = new bool[256];
    private readonly StringBuilder _out = new();
    private readonly byte[] _chunk = new byte[ChunkSize];
    private QomObject? _intercepted;
    private bool _isOpen;
    private long _openedNs;

    /// <param name="frontend">Front end of the character device that carries the protocol; connected.</param>
    /// <param name="tree">The object tree, where devices are looked up.</param>
    /// <param name="machine">The machine.</param>
    /// <param name="log">Takes lines of the conversation; null for no log.</param>
    public QtestServer(CharFrontend frontend, QomTree tree, IMachineServices machine, Action<string>? log)
    {
        _frontend = frontend;
        _tree = tree;
        _clocks = machine.Clocks;
        _memory = machine.Memory;
        _ports = machine.Ports;
        _hasClockCommands = machine.Clocks.IsManual;
        _log = log;
        frontend.SetHandler(this);
    }

    /// <inheritdoc/>
    public int CanReceive() => 1024;

    /// <inheritdoc/>
    public void Receive(ReadOnlySpan<byte> data) => _lines.Append(data, HandleLine);

    /// <inheritdoc/>
    public void OnEvent(ChardevEvent ev)
    {
        switch (ev)
        {
            case ChardevEvent.Opened:
                // A client starts from low levels, whatever the one before it was told.
                Array.Clear(_reportedLevels);
                _lines.Clear();
                _isOpen = true;
                _openedNs = _clocks.NowNs(ClockType.Realtime);
                _log?.Invoke("[I 0.000000] OPENED");
                break;
            case ChardevEvent.Closed:
                _isOpen = false;
                Log('I', "CLOSED");
                break;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _frontend.Disconnect();

    private void HandleLine(ReadOnlySpan<byte> line, bool tooLong)
    {
        if (tooLong)
        {
            Answer("FAIL line too long");
            return;
        }

        if (_log is not null)
        {
            Log('R', Encoding.UTF8.GetString(line));
        }

        var words = new QtestWords(line);
        Execute(words.Next(), ref words);
    }

    private void Execute(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        if (TryPort(command, ref words) || TryMemoryValue(command, ref words) || TryMemoryBlock(command, ref words) ||
            TryInterrupt(command, ref words) || TryClock(command, ref words))
        {
            return;
        }

        if (command.SequenceEqual("endianness"u8))
        {
            Answer("OK little");
        }
        else
        {
            Answer($"FAIL Unknown command '{Encoding.UTF8.GetString(command)}'");
        }
    }

    private bool TryPort(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        bool isWrite = command.StartsWith("out"u8);
        int prefix = isWrite ? 3 : 2;
        if ((!isWrite && !command.StartsWith("in"u8)) || command.Length != prefix + 1)
        {
            return false;
        }

        int size = command[^1] switch { (byte)'b' => 1, (byte)'w' => 2, (byte)'l' => 4, _ => 0 };
        if (size == 0)
        {
            return false;
        }

        if (!words.TryUnsigned(out ulong port) || port > 0xffff)
        {
            return Malformed();
        }

        ulong mask = uint.MaxValue >> (32 - (size * 8));
        if (isWrite)
        {
            if (!words.TryUnsigned(out ulong value))
            {
                return Malformed();
            }

            _ports.WriteValue(port, value & mask, size);
            Answer("OK");
        }
        else
        {
            Answer($"OK 0x{_ports.ReadValue(port, size) & mask:x4}");
        }

        return true;
    }

    private bool TryMemoryValue(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        bool isWrite = command.StartsWith("write"u8);
        int prefix = isWrite ? 5 : 4;
        if ((!isWrite && !command.StartsWith("read"u8)) || command.Length != prefix + 1)
        {
            return false;
        }

        int size = command[^1] switch { (byte)'b' => 1, (byte)'w' => 2, (byte)'l' => 4, (byte)'q' => 8, _ => 0 };
        if (size == 0)
        {
            return false;
        }

        if (!words.TryUnsigned(out ulong address))
        {
            return Malformed();
        }

        Span<byte> bytes = stackalloc byte[8];
        if (isWrite)
        {
            if (!words.TryUnsigned(out ulong value))
            {
                return Malformed();
            }

            System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
            _memory.Write(address, bytes[..size]);
            Answer("OK");
        }
        else
        {
            bytes.Clear();
            _memory.Read(address, bytes[..size]);
            Answer($"OK 0x{System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(bytes):x16}");
        }

        return true;
    }

    private bool TryClock(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        if (!_hasClockCommands)
        {
            return false;
        }

        long now;
        if (command.SequenceEqual("clock_step"u8))
        {
            if (words.IsAtEnd)
            {
                now = _clocks.StepVirtualToDeadline();
            }
            else if (!words.TrySigned(out long step) || step < 0)
            {
                return Malformed();
            }
            else
            {
                now = _clocks.StepVirtual(step);
            }
        }
        else if (command.SequenceEqual("clock_set"u8))
        {
            if (!words.TrySigned(out long target))
            {
                return Malformed();
            }

            now = _clocks.SetVirtual(target);
        }
        else
        {
            return false;
        }

        Answer(string.Create(CultureInfo.InvariantCulture, $"OK {now}"));
        return true;
    }

    private bool TryInterrupt(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        bool isIn = command.SequenceEqual("irq_intercept_in"u8);
        if (isIn || command.SequenceEqual("irq_intercept_out"u8))
        {
            Intercept(words.NextString(), isIn);
            return true;
        }

        if (!command.SequenceEqual("set_irq_in"u8))
        {
            return false;
        }

        string path = words.NextString();
        string name = words.NextString();
        if (path.Length == 0 || name.Length == 0 || !words.TrySigned(out long pin) || !words.TrySigned(out long level))
        {
            return Malformed();
        }

        if (name != "unnamed-gpio-in" || pin is < 0 or > 255 || _tree.Resolve(path) is not IInterruptInputs device)
        {
            Answer("FAIL Unknown device");
            return true;
        }

        device.SetLevel((int)pin, (int)Math.Clamp(level, int.MinValue, int.MaxValue));
        Answer("OK");
        return true;
    }

    private void Intercept(string path, bool isIn)
    {
        QomObject? found = path.Length == 0 ? null : _tree.Resolve(path);
        if (found is null || (isIn ? found is not IInterruptInputs : found is not IInterruptOutputs))
        {
            Answer("FAIL Unknown device");
            return;
        }

        if (_intercepted is not null)
        {
            Answer(ReferenceEquals(_intercepted, found) ? "OK" : "FAIL IRQ intercept already enabled");
            return;
        }

        if (isIn)
        {
            ((IInterruptInputs)found).InputWatcher = Report;
        }
        else
        {
            IReadOnlyList<InterruptLine> outputs = ((IInterruptOutputs)found).Outputs;
            for (int i = 0; i < outputs.Count; i++)
            {
                outputs[i].Connect(new Tap(this, i, outputs[i]), i);
            }
        }

        _intercepted = found;
        Answer("OK");
    }

    private void Report(int pin, int level)
    {
        bool high = level != 0;
        if ((uint)pin < _reportedLevels.Length && _reportedLevels[pin] != high)
        {
            _reportedLevels[pin] = high;
            Answer(string.Create(CultureInfo.InvariantCulture, $"IRQ {(high ? "raise" : "lower")} {pin}"));
        }
    }

    /// <summary>A line of the log: what it is, seconds since the client came, text.</summary>
    private void Log(char kind, string text)
    {
        if (_log is { } log)
        {
            double seconds = (_clocks.NowNs(ClockType.Realtime) - _openedNs) / 1e9;
            log(string.Create(CultureInfo.InvariantCulture, $"[{kind} +{seconds:F6}] {text}"));
        }
    }

    private bool Malformed()
    {
        Answer("FAIL malformed request");
        return true;
    }

    private void Answer(string line)
    {
        if (!_isOpen)
        {
            return;
        }

        Log('S', line);
        _frontend.WriteAll(Encoding.ASCII.GetBytes(line + "\n"));
    }

    /// <summary>Sits in an output line: reports a level, then passes it on.</summary>
    private sealed class Tap : IInterruptSink
    {
        private readonly QtestServer _server;
        private readonly int _number;
        private readonly IInterruptSink? _next;
        private readonly int _nextPin;

        public Tap(QtestServer server, int number, InterruptLine line)
        {
            _server = server;
            _number = number;
            _next = line.Sink;
            _nextPin = line.Pin;
        }

        public void SetLevel(int pin, int level)
        {
            _server.Report(_number, level);
            _next?.SetLevel(_nextPin, level);
        }
    }
}
