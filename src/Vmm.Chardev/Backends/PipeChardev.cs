using Vmm.Interop;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>A pair of FIFOs <c>PATH.in</c> and <c>PATH.out</c>, or else one FIFO or device <c>PATH</c> for both directions.</summary>
public sealed class PipeChardev : StreamChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Pipe;

    /// <summary>Opens the FIFOs. Both are opened read-write, so that neither open nor a missing peer blocks or ends the stream.</summary>
    /// <exception cref="QapiException">Could not open 'PATH': reason.</exception>
    internal PipeChardev(ChardevHost host, ChardevHostdev options)
        : base(host)
    {
        const int Flags = Libc.O_RDWR | Libc.O_NONBLOCK;
        Errno inError = host.FdSets.Open(options.Device + ".in", Flags, out SafeFd input);
        Errno outError = host.FdSets.Open(options.Device + ".out", Flags, out SafeFd output);
        if (inError != Errno.OK || outError != Errno.OK)
        {
            input.Dispose();
            output.Dispose();
            input = output = FileChardev.OpenOrThrow(host.FdSets, options.Device, Flags);
        }

        SetDescriptors(input, output);
        Filename = "pipe";
        IsOpen = true;
    }
}
