using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel;

/// <summary>The QOM types of this assembly.</summary>
internal static class ObjectModelTypes
{
    public static void Register(QomTypeRegistry registry)
    {
        registry.Add(QomObject.TypeInfo);
        registry.Add(Container.TypeInfo);
        registry.Add(Interface("interface", null));
        registry.Add(Interface("user-creatable"));
        registry.Add(Interface("hotplug-handler"));
        registry.Add(Interface("nmi"));
        registry.Add(Interface("fw_cfg-data-generator"));
        registry.Add(Objects.MemoryBackend.TypeInfo);
        registry.Add(Objects.MemoryBackendRam.TypeInfo);
        registry.Add(Objects.MemoryBackendFile.TypeInfo);
        registry.Add(Objects.MemoryBackendMemFd.TypeInfo);
        registry.Add(Objects.MemoryRegionNode.TypeInfo);
        registry.Add(Objects.IOThreadObject.BaseTypeInfo);
        registry.Add(Objects.IOThreadObject.TypeInfo);
        registry.Add(Objects.SecretCommon.TypeInfo);
        registry.Add(Objects.Secret.TypeInfo);
        registry.Add(Objects.KeyringSecret.TypeInfo);
        registry.Add(Objects.ThreadContext.TypeInfo);
        registry.Add(Authz.Authorization.TypeInfo);
        registry.Add(Authz.AuthorizationSimple.TypeInfo);
        registry.Add(Authz.AuthorizationList.TypeInfo);
        registry.Add(Authz.AuthorizationListFile.TypeInfo);
        registry.Add(Tls.TlsCredentials.TypeInfo);
        registry.Add(Tls.TlsCredentialsAnon.TypeInfo);
        registry.Add(Tls.TlsCredentialsPsk.TypeInfo);
        registry.Add(Tls.TlsCredentialsX509.TypeInfo);
        registry.Add(Devices.Device.TypeInfo);
        registry.Add(Devices.Bus.TypeInfo);
        registry.Add(Devices.InterruptPinNode.TypeInfo);
        registry.Add(Chardevs.Chardev.TypeInfo);
    }

    private static QomTypeInfo Interface(string name, string? parent = "interface") =>
        new() { Name = name, Parent = parent, IsAbstract = true };
}
