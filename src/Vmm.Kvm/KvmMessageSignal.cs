using Vmm.Interop;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>An eventfd that raises a GSI of its own, whose route is a message. The GSI is taken with the first message.</summary>
internal sealed class KvmMessageSignal(KvmIrqRouting routing, EventFd trigger) : IMessageSignal
{
    private int _gsi = -1;
    private ulong _address;
    private uint _data;

    /// <inheritdoc/>
    public bool SetMessage(ulong address, uint data)
    {
        if (_gsi >= 0)
        {
            if ((address, data) != (_address, _data))
            {
                (_address, _data) = (address, data);
                return routing.UpdateMsi(_gsi, address, data) == Errno.OK;
            }

            return true;
        }

        int gsi = routing.AddMsi(address, data);
        if (gsi < 0)
        {
            return false;
        }

        if (routing.AttachIrqFd(trigger, gsi) != Errno.OK)
        {
            routing.ReleaseMsi(gsi);
            return false;
        }

        (_gsi, _address, _data) = (gsi, address, data);
        return true;
    }

    /// <inheritdoc/>
    public void Send() => trigger.Signal();

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_gsi >= 0)
        {
            _ = routing.DetachIrqFd(trigger, _gsi);
            routing.ReleaseMsi(_gsi);
            _gsi = -1;
        }

        trigger.Dispose();
    }
}
