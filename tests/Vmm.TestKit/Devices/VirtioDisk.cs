using System.Buffers.Binary;
using Vmm.Devices.Virtio;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Devices;

namespace Vmm.TestKit.Devices;

/// <summary>A disk behind a memory-mapped transport with a driver's view of it: registers, a ring of 16 entries, requests.</summary>
public sealed class VirtioDisk : IDisposable
{
    /// <summary>Where the registers are.</summary>
    public const ulong Registers = 0xfeb00000;

    /// <summary>Entries of the ring.</summary>
    public const int RingSize = 16;

    /// <summary>Descriptors.</summary>
    public const ulong Ring = 0x1000;

    /// <summary>Interrupt input.</summary>
    public const int Irq = 7;

    private const ulong Header = 0x8000;
    private const ulong Footer = 0x9000;
    private const ulong Data = 0x10000;

    private ushort _available;
    private int _next;
    private int _tableBytes;
    private bool _wrap = true;

    /// <summary>A device that is plugged in and not yet set up.</summary>
    public VirtioDisk(bool isLegacy = false, bool isPacked = false, Action<VirtioBlk>? configure = null)
    {
        Machine = new FakeMachineServices { Blocks = new OneBackend(Backend = new MemoryBackend(this)) };
        Transport = new VirtioMmio { Address = Registers, IsLegacy = isLegacy, IoEventFd = false, Irq = Machine.Gsi[Irq] };
        Machine.Devices.Realize(Transport, Machine.MainSystemBus);
        Disk = new VirtioBlk { Drive = "d", Packed = isPacked };
        configure?.Invoke(Disk);
        Machine.Devices.Realize(Disk, Transport.ChildBuses[0]);
        IsLegacy = isLegacy;
        IsPacked = isPacked;
    }

    /// <summary>The machine.</summary>
    public FakeMachineServices Machine { get; }

    /// <summary>The transport.</summary>
    public VirtioMmio Transport { get; }

    /// <summary>The device.</summary>
    public VirtioBlk Disk { get; }

    /// <summary>The medium.</summary>
    public MemoryBackend Backend { get; }

    /// <summary>Legacy registers.</summary>
    public bool IsLegacy { get; }

    /// <summary>A packed ring.</summary>
    public bool IsPacked { get; }

    /// <summary>Address of the available ring, or of the driver's event structure.</summary>
    public ulong Available => IsLegacy ? Ring + (16 * RingSize) : Ring + 0x800;

    /// <summary>Address of the used ring, or of the device's event structure.</summary>
    public ulong Used => Ring + 0x1000;

    /// <summary>Index of the used ring.</summary>
    public ushort UsedIndex => Machine.Memory.ReadU16(Used + 2);

    /// <summary>Reads a register.</summary>
    public uint Read(ulong offset) => Machine.Memory.ReadU32(Registers + offset);

    /// <summary>Writes a register.</summary>
    public void Write(ulong offset, uint value) => Machine.Memory.WriteU32(Registers + offset, value);

    /// <summary>Does what a driver does before its first request; returns the features offered.</summary>
    public ulong SetUp(ulong without = 0)
    {
        Write(0x70, 0);
        Write(0x70, 3);
        Write(0x14, 0);
        ulong features = Read(0x10);
        Write(0x14, 1);
        features |= (ulong)Read(0x10) << 32;
        Write(0x24, 0);
        Write(0x20, (uint)(features & ~without));
        Write(0x24, 1);
        Write(0x20, (uint)((features & ~without) >> 32));
        Machine.Memory.Write(Ring, new byte[0x2000]);
        Write(0x30, 0);
        Write(0x38, RingSize);
        if (IsLegacy)
        {
            Write(0x28, 4096);
            Write(0x40, (uint)(Ring >> 12));
        }
        else
        {
            Write(0x70, 0xb);
            Write(0x80, (uint)Ring);
            Write(0x90, (uint)Available);
            Write(0xa0, (uint)Used);
            Write(0x44, 1);
        }

        Write(0x70, 0xf);
        _available = 0;
        _next = 0;
        _wrap = true;
        return features;
    }

    /// <summary>Puts a request into the ring, without a notification.</summary>
    public void Submit(uint type, ulong sector, ReadOnlySpan<byte> output, int inputBytes, bool isIndirect = false)
    {
        Span<byte> header = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], sector);
        Machine.Memory.Write(Header, header);
        Machine.Memory.WriteU8(Footer, 0xff);
        List<(ulong Address, int Length, bool IsWrite)> parts = [(Header, 16, false)];
        if (output.Length > 0)
        {
            Machine.Memory.Write(Data, output);
            parts.Add((Data, output.Length, false));
        }

        if (inputBytes > 0)
        {
            parts.Add((Data, inputBytes, true));
        }

        parts.Add((Footer, 1, true));
        if (IsPacked)
        {
            SubmitPacked(parts, isIndirect);
        }
        else
        {
            SubmitSplit(parts, isIndirect);
        }
    }

    /// <summary>Makes the last request, which was an indirect one, available again, and lets the device work. No allocation.</summary>
    public void Repeat()
    {
        if (IsPacked)
        {
            DescribePacked(Ring + ((ulong)_next * 16), 0x7000, _tableBytes, 4 | (_wrap ? 0x80 : 0x8000));
            Advance();
        }
        else
        {
            Machine.Memory.WriteU16(Available + 2, ++_available);
        }

        Kick();
    }

    /// <summary>Notifies the device and lets it work.</summary>
    public void Kick()
    {
        Write(0x50, 0);
        Run();
    }

    /// <summary>Lets the device work.</summary>
    public void Run()
    {
        while (Machine.MainLoop.RunOnce(block: false))
        {
        }
    }

    /// <summary>Carries a request out; the result is its status, 255 when it is not complete.</summary>
    public byte Request(uint type, ulong sector, ReadOnlySpan<byte> output, int inputBytes, bool isIndirect = false)
    {
        Submit(type, sector, output, inputBytes, isIndirect);
        Kick();
        return Status;
    }

    /// <summary>Status of the last request; 255 when it is not complete.</summary>
    public byte Status => Machine.Memory.ReadU8(Footer);

    /// <summary>What the last request read.</summary>
    public byte[] Input(int length)
    {
        byte[] bytes = new byte[length];
        Machine.Memory.Read(Data, bytes);
        return bytes;
    }

    /// <inheritdoc/>
    public void Dispose() => Machine.Dispose();

    private void SubmitSplit(List<(ulong Address, int Length, bool IsWrite)> parts, bool isIndirect)
    {
        ulong table = isIndirect ? 0x7000 : Ring;
        for (int i = 0; i < parts.Count; i++)
        {
            int flags = (parts[i].IsWrite ? 2 : 0) | (i + 1 < parts.Count ? 1 : 0);
            Describe(table + ((ulong)i * 16), parts[i].Address, parts[i].Length, flags, i + 1);
        }

        if (isIndirect)
        {
            Describe(Ring, table, parts.Count * 16, 4, 0);
        }

        Machine.Memory.WriteU16(Available + 4 + (2 * (ulong)(_available % RingSize)), 0);
        _available++;
        Machine.Memory.WriteU16(Available + 2, _available);
    }

    private void SubmitPacked(List<(ulong Address, int Length, bool IsWrite)> parts, bool isIndirect)
    {
        if (isIndirect)
        {
            for (int i = 0; i < parts.Count; i++)
            {
                DescribePacked(0x7000 + ((ulong)i * 16), parts[i].Address, parts[i].Length, parts[i].IsWrite ? 2 : 0);
            }

            _tableBytes = parts.Count * 16;
            parts = [(0x7000, _tableBytes, false)];
        }

        for (int i = 0; i < parts.Count; i++)
        {
            int flags = (isIndirect ? 4 : 0) | (parts[i].IsWrite ? 2 : 0) | (i + 1 < parts.Count ? 1 : 0) | (_wrap ? 0x80 : 0x8000);
            DescribePacked(Ring + ((ulong)_next * 16), parts[i].Address, parts[i].Length, flags);
            Advance();
        }
    }

    private void Advance()
    {
        if (++_next == RingSize)
        {
            _next = 0;
            _wrap = !_wrap;
        }
    }

    private void Describe(ulong at, ulong address, int length, int flags, int next)
    {
        Machine.Memory.WriteU64(at, address);
        Machine.Memory.WriteU32(at + 8, (uint)length);
        Machine.Memory.WriteU16(at + 12, (ushort)flags);
        Machine.Memory.WriteU16(at + 14, (ushort)next);
    }

    private void DescribePacked(ulong at, ulong address, int length, int flags)
    {
        Machine.Memory.WriteU64(at, address);
        Machine.Memory.WriteU32(at + 8, (uint)length);
        Machine.Memory.WriteU16(at + 12, 5);
        Machine.Memory.WriteU16(at + 14, (ushort)flags);
    }

    private sealed class OneBackend(MemoryBackend backend) : IBlockBackends
    {
        public IBlockBackend? Take(string name) => name == "d" ? backend : null;

        public void Return(IBlockBackend backend)
        {
        }
    }

    /// <summary>A medium in an array.</summary>
    public sealed class MemoryBackend(VirtioDisk owner) : IBlockBackend
    {
        /// <summary>The bytes.</summary>
        public byte[] Bytes { get; } = new byte[64 << 10];

        /// <summary>What requests end with instead of being carried out; 0 to carry them out.</summary>
        public int Error { get; set; }

        /// <summary>What is done about errors.</summary>
        public BlockErrorAction Action { get; set; } = BlockErrorAction.Report;

        /// <summary>Kinds of the first hundred requests, in order.</summary>
        public List<string> Seen { get; } = [];

        /// <summary>Number of requests.</summary>
        public int Requests { get; private set; }

        /// <summary>When not null, requests wait for it to be completed.</summary>
        public IoCompletion<int>? Hold { get; set; }

        /// <inheritdoc/>
        public string Name => "d";

        /// <inheritdoc/>
        public bool IsInserted => true;

        /// <inheritdoc/>
        public bool IsReadOnly { get; set; }

        /// <inheritdoc/>
        public long Length => Bytes.Length;

        /// <inheritdoc/>
        public EventLoop.EventLoop Loop => owner.Machine.MainLoop;

        /// <inheritdoc/>
        public bool IsWriteCacheEnabled { get; set; } = true;

        /// <inheritdoc/>
        public int RequestAlignment => 1;

        /// <inheritdoc/>
        public int MaxTransfer => 0;

        /// <inheritdoc/>
        public int OptTransfer => 0;

        /// <inheritdoc/>
        public void Attach(IBlockDevice device, bool isReadOnly, bool shareWrites)
        {
        }

        /// <inheritdoc/>
        public void Detach(IBlockDevice device)
        {
        }

        /// <inheritdoc/>
        public Task SetLoopAsync(EventLoop.EventLoop loop) => Task.CompletedTask;

        /// <inheritdoc/>
        public void SetErrorPolicy(BlockErrorPolicy read, BlockErrorPolicy write)
        {
        }

        /// <inheritdoc/>
        public async IoTask<int> ReadAsync(long offset, IoVectors data)
        {
            int result = await DoAsync("read");
            if (result == 0)
            {
                data.CopyFrom(0, Bytes.AsSpan((int)offset, (int)data.Size));
            }

            return result;
        }

        /// <inheritdoc/>
        public async IoTask<int> WriteAsync(long offset, IoVectors data)
        {
            int result = await DoAsync("write");
            if (result == 0)
            {
                data.CopyTo(0, Bytes.AsSpan((int)offset, (int)data.Size));
            }

            return result;
        }

        /// <inheritdoc/>
        public async IoTask<int> WriteZeroesAsync(long offset, long bytes, bool mayUnmap)
        {
            int result = await DoAsync(mayUnmap ? "zeroes unmap" : "zeroes");
            if (result == 0)
            {
                Bytes.AsSpan((int)offset, (int)bytes).Clear();
            }

            return result;
        }

        /// <inheritdoc/>
        public async IoTask<int> DiscardAsync(long offset, long bytes) => await DoAsync("discard");

        /// <inheritdoc/>
        public async IoTask<int> FlushAsync() => await DoAsync("flush");

        /// <inheritdoc/>
        public BlockErrorAction HandleError(bool isRead, int error) => Action;

        /// <inheritdoc/>
        public void CountInvalid(bool isRead) => Invalid++;

        /// <summary>Requests that the device has refused.</summary>
        public int Invalid { get; private set; }

        private async IoTask<int> DoAsync(string what)
        {
            Requests++;
            if (Seen.Count < 100)
            {
                Seen.Add(what);
            }

            return Hold is { } hold ? await hold.Task : Error;
        }
    }
}
