using System.Buffers.Binary;
using Vmm.Devices.FwCfg;
using Vmm.Machines.Acpi;
using Vmm.Machines.Smbios;
using Vmm.Memory;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Machines;

public abstract partial class X86Machine
{
    private const int MaxSplashBytes = 16 << 20;
    private const int FacsWakingVector = 12;

    /// <summary>The file with the ACPI tables is a multiple of this, in bytes.</summary>
    protected virtual uint AcpiTablesAlignment => 1;

    /// <summary>The script that places them is a multiple of this, in bytes.</summary>
    protected virtual uint AcpiScriptAlignment => 1;

    /// <inheritdoc/>
    /// <remarks>
    /// Firmware, where there is one, starts at its reset vector and finds in the clock's RAM that the machine slept. A kernel that was started without
    /// goes on at the vector that it left in the FACS, in real mode (ACPI specification 6.4, 5.2.10); one that left none starts anew, as firmware would
    /// have it.
    /// </remarks>
    protected override void ApplyWakeup()
    {
        if (_image is null || Accelerator.Vcpus.Count == 0 || Accelerator.IsQtest)
        {
            return;
        }

        PrepareDirectBoot();
        Span<byte> vector = stackalloc byte[4];
        uint address = _facs != 0 && Memory.Read(_facs + FacsWakingVector, vector) == MemTxResult.Ok
            ? BinaryPrimitives.ReadUInt32LittleEndian(vector)
            : 0;
        if (address == 0)
        {
            Environment.Run.RequestReset(ShutdownCause.GuestReset);
            return;
        }

        Accelerator.Vcpus[0].SetState(EntryStates.RealMode(address, Accelerator.Vcpus[0].GetState()));
    }

    // Made when firmware looks at them, anew after each reset: there may be more vCPUs then.
    private AcpiFiles AcpiTablesForFirmware => _acpiFiles ??= AcpiTables.BuildFiles(DescribeAcpi());

    private void AddTableFiles()
    {
        if (Acpi != OnOffAuto.Off)
        {
            FwCfg!.AddFile(AcpiFiles.RsdpName, new TableFile(() => AcpiTablesForFirmware.Rsdp, 1));
            FwCfg.AddFile(AcpiFiles.TablesName, new TableFile(() => AcpiTablesForFirmware.Tables, AcpiTablesAlignment));
            FwCfg.AddFile(AcpiFiles.ScriptName, new TableFile(() => AcpiTablesForFirmware.Script, AcpiScriptAlignment));
        }

        if (DescribeSystem() is { } system)
        {
            _smbios = SmbiosTables.Build(system);
            if (_smbios.Structures.Length > ushort.MaxValue)
            {
                throw new QapiException($"SMBIOS 2.1 table length {_smbios.Structures.Length} exceeds {ushort.MaxValue}");
            }

            FwCfg!.AddFile(SmbiosTables.AnchorName, _smbios.Anchor);
            FwCfg.AddFile(SmbiosTables.StructuresName, _smbios.Structures);
        }
    }

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

    /// <summary>A file that is made when it is looked at; its size is rounded up, so that it stays the same when the tables change.</summary>
    private sealed class TableFile(Func<ReadOnlyMemory<byte>> content, uint alignment) : IFwCfgSource
    {
        public uint Length => ((uint)content().Length + alignment - 1) / alignment * alignment;

        public void Read(uint offset, Span<byte> destination)
        {
            ReadOnlySpan<byte> bytes = content().Span;
            bytes = bytes[(int)Math.Min(offset, (uint)bytes.Length)..];
            int known = Math.Min(bytes.Length, destination.Length);
            bytes[..known].CopyTo(destination);
            destination[known..].Clear();
        }
    }
}
