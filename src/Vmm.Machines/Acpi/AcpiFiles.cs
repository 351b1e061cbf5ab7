namespace Vmm.Machines.Acpi;

/// <summary>ACPI tables as firmware gets them: two files and the script that says where to put them and what to adjust there.</summary>
/// <param name="Rsdp">The root pointer; its checksums are zero.</param>
/// <param name="Tables">All tables; pointers count from the file's beginning, checksums are zero.</param>
/// <param name="Script">Commands, 128 bytes each.</param>
public sealed record AcpiFiles(ReadOnlyMemory<byte> Rsdp, ReadOnlyMemory<byte> Tables, ReadOnlyMemory<byte> Script)
{
    /// <summary>Name of the file with the root pointer.</summary>
    public const string RsdpName = "etc/acpi/rsdp";

    /// <summary>Name of the file with the tables.</summary>
    public const string TablesName = "etc/acpi/tables";

    /// <summary>Name of the script.</summary>
    public const string ScriptName = "etc/table-loader";
}
