using System.Buffers.Binary;
using Vmm.Devices.FwCfg;

namespace Vmm.Machines;

public abstract partial class X86Machine
{
    private const int MaxSplashBytes = 16 << 20;

    // What -boot says beyond the order of devices, where firmware looks for it.
    private void AddBootSettings(FwCfgIo fwCfg, BootParameters boot)
    {
        byte[] wait = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(wait, (int)(boot.RebootTimeoutMs ?? -1));
        fwCfg.AddFile("etc/boot-fail-wait", wait);
        if (boot.SplashTimeMs is { } splashTime)
        {
            byte[] time = new byte[2];
            BinaryPrimitives.WriteUInt16LittleEndian(time, (ushort)splashTime);
            fwCfg.AddFile("etc/boot-menu-wait", time);
        }

        if (boot.Splash is { } splash && ReadSplash(splash) is { } picture)
        {
            fwCfg.AddFile(picture is [0xff, 0xd8, ..] ? "bootsplash.jpg" : "bootsplash.bmp", picture);
        }
    }

    // A machine starts without its picture, too.
    private byte[]? ReadSplash(string name)
    {
        if (FindDataFile(name) is not { } path)
        {
            Environment.Report($"failed to find file '{name}'");
            return null;
        }

        try
        {
            if (new FileInfo(path).Length is >= 30 and <= MaxSplashBytes && File.ReadAllBytes(path) is { Length: >= 30 } picture)
            {
                // JPEG's start of image; or a bitmap whose header (offset 28) says 24 bits for each pixel.
                if (picture is [0xff, 0xd8, ..] || (picture is [(byte)'B', (byte)'M', ..] && picture[28] == 24 && picture[29] == 0))
                {
                    return picture;
                }
            }

            Environment.Report($"splash file '{path}' format not recognized; must be JPEG or 24 bit BMP");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Environment.Report($"failed to read splash file '{path}': {e.Message}");
        }

        return null;
    }

    private string? FindDataFile(string name)
    {
        if (File.Exists(name))
        {
            return name;
        }

        if (!name.Contains('/'))
        {
            foreach (string directory in (IEnumerable<string>)[.. Parameters.DataDirectories, .. FirmwareDirectories.Usual])
            {
                string path = Path.Combine(directory, name);
                if (File.Exists(path))
                {
                    return path;
                }
            }
        }

        return null;
    }
}
