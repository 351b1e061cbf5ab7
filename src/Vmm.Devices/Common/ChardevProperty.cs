using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices;

/// <summary>What the <c>chardev</c> property of a device means: the name of a back end below <c>/chardevs</c>.</summary>
public static class ChardevProperty
{
    /// <summary>
    /// Connects <paramref name="frontend"/> to the back end <paramref name="name"/>. Throws QEMU's errors when there is none
    /// or when it is taken.
    /// </summary>
    public static void Connect(CharFrontend frontend, string name, IMachineServices machine, string typeName)
    {
        QomObject container = machine.Objects.Chardevs;
        if (container.FindChild(name) is not Chardev backend)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Property '{typeName}.chardev' can't find value '{name}'");
        }

        try
        {
            frontend.Connect(backend);
        }
        catch (QapiException e)
        {
            throw new QapiException(e.ErrorClass, $"Property '{typeName}.chardev' can't take value '{name}': {e.Desc}");
        }
    }
}
