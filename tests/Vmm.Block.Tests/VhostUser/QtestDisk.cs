using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;

namespace Vmm.Block.Tests.VhostUser;

/// <summary>
/// QEMU's vhost-user-blk device on a machine whose processor is halted: what a driver does comes over the qtest socket. One request at a time,
/// in a split ring of 16 entries.
/// </summary>
internal sealed class QtestDisk : IDisposable
{
    private const int RingSize = 16;
    private const ulong Ring = 0x10000;
    private const ulong Available = Ring + 0x800;
    private const ulong Used = Ring + 0x1000;
    private const ulong Header = 0x20000;
    private const ulong Footer = 0x21000;
    private const ulong Data = 0x40000;

    private readonly Process _process;
    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly StreamWriter _writer;
    private ulong _registers;
    private ushort _available;

    private QtestDisk(Process process, Socket socket)
    {
        _process = process;
        _socket = socket;
        NetworkStream stream = new(socket, ownsSocket: false);
        _reader = new StreamReader(stream);
        _writer = new StreamWriter(stream) { AutoFlush = true, NewLine = "\n" };
    }

    public static QtestDisk Start(string folder, string chardev, int queues = 1)
    {
        string path = Path.Combine(folder, "qtest");
        File.Delete(path);
        using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();

        // Debian's QEMU has no accelerator that executes nothing; a processor that halts comes close.
        byte[] halt = new byte[65536];
        new byte[] { 0xfa, 0xf4, 0xeb, 0xfd }.CopyTo(halt, 0xfff0);
        string bios = Path.Combine(folder, "halt");
        File.WriteAllBytes(bios, halt);
        ProcessStartInfo start = new("/usr/bin/qemu-system-x86_64") { RedirectStandardError = true };
        string[] arguments =
        [
            "-M", "microvm,memory-backend=m", "-accel", "tcg", "-bios", bios, "-m", "16", "-object", "memory-backend-memfd,id=m,size=16M,share=on", "-nodefaults",
            "-display", "none", "-qtest", "unix:" + path, "-qtest-log", "none", "-global", "virtio-mmio.force-legacy=false",
            "-chardev", "socket,id=c,path=" + chardev, "-device", $"vhost-user-blk,chardev=c,num-queues={queues}",
        ];
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        Process process = Process.Start(start)!;
        if (!listener.Poll(TimeSpan.FromSeconds(60), SelectMode.SelectRead))
        {
            process.Kill();
            throw new InvalidOperationException("QEMU does not start");
        }

        return new QtestDisk(process, listener.Accept());
    }

    public void SetUp(int queue = 0)
    {
        for (_registers = 0xfeb00000; Read(0x08) != 2; _registers += 0x200)
        {
            Assert.That(_registers, Is.LessThan(0xfeb04000), "no disk");
        }

        Write(0x70, 0);
        Write(0x70, 3);
        Write(0x14, 0);
        uint low = Read(0x10);
        Write(0x14, 1);
        uint high = Read(0x10);
        Write(0x24, 0);
        Write(0x20, low);
        Write(0x24, 1);
        Write(0x20, high);
        Write(0x70, 0xb);
        Send($"write 0x{Ring:x} 0x2000 0x{new string('0', 0x4000)}");
        _available = 0;
        Write(0x30, (uint)queue);
        Write(0x38, RingSize);
        Write(0x80, (uint)Ring);
        Write(0x90, (uint)Available);
        Write(0xa0, (uint)Used);
        Write(0x44, 1);
        Write(0x70, 0xf);
    }

    public void Reset() => Write(0x70, 0);

    public byte[] Config(int bytes)
    {
        byte[] config = new byte[bytes];
        for (int i = 0; i < bytes; i += 4)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(config.AsSpan(i), Read(0x100 + (ulong)i));
        }

        return config;
    }

    /// <summary>Carries a request out and returns its status.</summary>
    public byte Request(uint type, ulong sector, byte[] output, int inputBytes, int queue = 0)
    {
        byte[] header = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(8), sector);
        WriteMemory(Header, header);
        WriteMemory(Footer, [0xff]);
        List<(ulong Address, int Length, int Flags)> parts = [(Header, 16, 0)];
        if (output.Length > 0)
        {
            WriteMemory(Data, output);
            parts.Add((Data, output.Length, 0));
        }

        if (inputBytes > 0)
        {
            parts.Add((Data, inputBytes, 2));
        }

        parts.Add((Footer, 1, 2));
        byte[] table = new byte[16 * parts.Count];
        for (int i = 0; i < parts.Count; i++)
        {
            Span<byte> at = table.AsSpan(16 * i);
            BinaryPrimitives.WriteUInt64LittleEndian(at, parts[i].Address);
            BinaryPrimitives.WriteUInt32LittleEndian(at[8..], (uint)parts[i].Length);
            BinaryPrimitives.WriteUInt16LittleEndian(at[12..], (ushort)(parts[i].Flags | (i + 1 < parts.Count ? 1 : 0)));
            BinaryPrimitives.WriteUInt16LittleEndian(at[14..], (ushort)(i + 1));
        }

        WriteMemory(Ring, table);
        Send($"writew 0x{Available + 4 + (2ul * (ulong)(_available % RingSize)):x} 0");
        Send($"writew 0x{Available + 2:x} {++_available}");
        Write(0x50, (uint)queue);
        Assert.That(SpinWait.SpinUntil(() => Value($"readw 0x{Used + 2:x}") == _available, TimeSpan.FromSeconds(60)), "the request is not complete");
        return (byte)Value($"readb 0x{Footer:x}");
    }

    public byte[] Input(int length) => Convert.FromHexString(Send($"read 0x{Data:x} 0x{length:x}")[5..]);

    public void Dispose()
    {
        _socket.Dispose();
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private uint Read(ulong register) => (uint)Value($"readl 0x{_registers + register:x}");

    private void Write(ulong register, uint value) => Send($"writel 0x{_registers + register:x} 0x{value:x}");

    private void WriteMemory(ulong address, byte[] bytes) => Send($"write 0x{address:x} 0x{bytes.Length:x} 0x{Convert.ToHexString(bytes)}");

    private ulong Value(string command) => ulong.Parse(Send(command)[5..], NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private string Send(string command)
    {
        _writer.WriteLine(command);
        string? answer;
        do
        {
            answer = _reader.ReadLine();
        }
        while (answer is not null && answer.StartsWith("IRQ", StringComparison.Ordinal));

        Assert.That(answer, Does.StartWith("OK"), command);
        return answer!;
    }
}
