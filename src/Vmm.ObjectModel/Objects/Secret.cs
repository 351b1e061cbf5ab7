using System.Text;
using Vmm.Interop;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>A secret that is given directly or in a file (QOM <c>secret</c>). Home: main loop.</summary>
public sealed class Secret : SecretCommon
{
    private static QomTypeInfo? s_typeInfo;

    private string? _data;
    private string? _file;

    /// <summary>Type "secret".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "secret",
        Parent = "secret_common",
        Factory = static () => new Secret(),
        Properties = static () =>
        [
            Text("data", static s => s._data, static (s, v) => s._data = v),
            Text("file", static s => s._file, static (s, v) => s._file = v),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    protected override byte[] Load()
    {
        if (_file is not null)
        {
            return _data is null ? SmallFile.Read(_file, $"Unable to read {_file}") : throw new QapiException("'file' and 'data' are mutually exclusive");
        }

        return _data is not null ? Encoding.UTF8.GetBytes(_data) : throw new QapiException("Either 'file' or 'data' must be provided");
    }

    private static QomPropertyInfo Text(string name, Func<Secret, string?> get, Action<Secret, string?> set) =>
        new(name, "string", o => get((Secret)o) ?? "", (o, input) => set((Secret)o, input.ReadString()));
}

/// <summary>A secret in a key of the kernel (QOM <c>secret_keyring</c>). Home: main loop.</summary>
public sealed class KeyringSecret : SecretCommon
{
    private static QomTypeInfo? s_typeInfo;

    private int _serial;

    /// <summary>Type "secret_keyring".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "secret_keyring",
        Parent = "secret_common",
        Factory = static () => new KeyringSecret(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "serial",
                "int32_t",
                static o => ((KeyringSecret)o)._serial,
                static (o, input) => ((KeyringSecret)o).SetSerial(input.ReadInt32())),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public override IReadOnlyList<string> RequiredProperties => ["serial"];

    /// <inheritdoc/>
    protected override byte[] Load()
    {
        Errno errno = Keyring.Read(_serial, out byte[] payload);
        return errno == Errno.OK ? payload : throw new QapiException($"Unable to read serial key {_serial:x8}: {errno.Message()}");
    }

    private void SetSerial(int serial) => _serial = serial != 0 ? serial : throw new QapiException("'serial' should not be equal to 0");
}
