namespace Vmm.Qapi.Types;

/// <summary>The text that a monitor command for people would print.</summary>
[QapiStruct]
public sealed partial record HumanReadableText
{
    /// <summary>The text.</summary>
    [QapiName("human-readable-text")]
    public required string Text { get; init; }
}
