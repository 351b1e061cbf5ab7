using System.Text;
using Vmm.Qapi;

namespace Vmm.Devices.FwCfg;

/// <summary>The option <c>-fw_cfg [name=]NAME,file=PATH|string=TEXT</c>.</summary>
public static class FwCfgOption
{
    private const int MaxNameLength = 55;

    /// <summary>
    /// Adds the file that the option describes. Throws QEMU's errors; the result is a warning to print, or null.
    /// </summary>
    /// <param name="device">The machine's device.</param>
    /// <param name="name">Value of name; null when not given.</param>
    /// <param name="file">Value of file; null when not given.</param>
    /// <param name="text">Value of string; null when not given.</param>
    /// <param name="readFile">Reads a host file or throws a <see cref="QapiException"/> that says why it cannot.</param>
    public static string? Apply(FwCfgDevice device, string? name, string? file, string? text, Func<string, byte[]> readFile)
    {
        if (string.IsNullOrEmpty(name) || string.IsNullOrEmpty(file) == string.IsNullOrEmpty(text))
        {
            throw new QapiException(
                QapiErrorClass.GenericError, "name, plus exactly one of file, string and gen_id, are needed");
        }

        if (name.Length > MaxNameLength)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"name too long (max. {MaxNameLength} char)");
        }

        byte[] data = string.IsNullOrEmpty(file) ? Encoding.UTF8.GetBytes(text!) : readFile(file);
        device.AddFile(name, data);
        return name.StartsWith("opt/", StringComparison.Ordinal)
            ? null
            : "externally provided fw_cfg item names should be prefixed with \"opt/\"";
    }
}
