using Vmm.Machines.Loading;

namespace Vmm.Fuzz.Tests.Booting;

/// <summary>A kernel file of any content: refused with a <see cref="BootLoadException"/>, or laid out so that it can be placed in RAM.</summary>
internal sealed class KernelTarget(string name, params string[] words) : FuzzTarget
{
    private const int RamSize = 4 << 20;
    private const int Piece = 0x1800;

    private readonly byte[] _ram = new byte[RamSize];

    public override string Name => name;

    public override int Iterations => 5000;

    public override int MaxLength => 8192;

    public override IReadOnlyList<byte[]> Dictionary { get; } = [.. words.Select(Convert.FromHexString)];

    // What is laid out may hold page tables and the whole file once.
    public override long AllocationLimit(int inputLength) => 256 * 1024 + (16L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        var request = new KernelRequest
        {
            KernelPath = "kernel",
            CommandLine = "console=ttyS0",
            Ram = RamLayout.ForPc(RamSize),
            LongMode = input.Length % 2 == 0,
        };
        try
        {
            using BootImage image = KernelLoader.Load(request, BootFile.FromMemory("kernel", input.ToArray()));
            foreach (BootSegment segment in image.Segments)
            {
                Require(segment.End >= segment.Gpa, "a segment wraps around");
            }

            image.LoadInto(Map, ramIsZero: true);
            return $"{image.Protocol} {image.Entry.Mode} {image.Segments.Count} {image.Warnings.Count}";
        }
        catch (BootLoadException e)
        {
            return Shape(e.Message);
        }
    }

    private Span<byte> Map(ulong gpa, int length) =>
        gpa >= RamSize ? default : _ram.AsSpan((int)gpa, Math.Min(Math.Min(length, RamSize - (int)gpa), Piece - ((int)gpa % Piece)));
}
