using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Direction of a request.</summary>
[QapiEnum]
public enum IoOperationType
{
    /// <summary>A read.</summary>
    Read,

    /// <summary>A write.</summary>
    Write,
}

/// <summary>What was done about a failed request.</summary>
[QapiEnum]
[QapiName("BlockErrorAction")]
public enum ReportedErrorAction
{
    /// <summary>The guest saw success.</summary>
    Ignore,

    /// <summary>The guest saw the error.</summary>
    Report,

    /// <summary>The machine was stopped.</summary>
    Stop,
}

/// <summary>An image contradicts itself.</summary>
/// <param name="Device">Name of the back end that shows it; empty when it has none.</param>
/// <param name="NodeName">The node.</param>
/// <param name="Msg">How.</param>
/// <param name="Offset">Where in its file, in bytes; absent when that is not known.</param>
/// <param name="Size">For how many bytes; absent when that is not known.</param>
/// <param name="Fatal">The image is not usable any more.</param>
[QmpEvent("BLOCK_IMAGE_CORRUPTED")]
public sealed partial record BlockImageCorruptedEvent(string Device, string? NodeName, string Msg, long? Offset, long? Size, bool Fatal);

/// <summary>A request of a device failed.</summary>
/// <param name="Device">Name of the back end; empty when it has none.</param>
/// <param name="NodeName">The node; absent without medium.</param>
/// <param name="Operation">Direction.</param>
/// <param name="Action">What was done.</param>
/// <param name="Nospace">The host has no space left; absent when errors never stop the machine.</param>
/// <param name="Reason">The error as text.</param>
[QmpEvent("BLOCK_IO_ERROR")]
public sealed partial record BlockIoErrorEvent(
    string Device, string? NodeName, IoOperationType Operation, ReportedErrorAction Action, bool? Nospace, string Reason);
