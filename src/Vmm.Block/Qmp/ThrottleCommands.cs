using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Throttling;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Limits of back ends. Home: main loop.</summary>
public sealed class ThrottleCommands(BlockGraph graph, BlockBackends backends, ThrottleGroups groups)
{
    /// <summary>Sets the limits of a back end and of all that share its group.</summary>
    [QmpCommand(
        "block_set_io_throttle",
        ArgsType = "device:B,bps:l,bps_rd:l,bps_wr:l,iops:l,iops_rd:l,iops_wr:l,bps_max:l?,bps_rd_max:l?,bps_wr_max:l?,iops_max:l?,iops_rd_max:l?,iops_wr_max:l?,bps_max_length:l?,bps_rd_max_length:l?,bps_wr_max_length:l?,iops_max_length:l?,iops_rd_max_length:l?,iops_wr_max_length:l?,iops_size:l?,group:s?,id:s?",
        AllowPreconfig = true,
        Since = "1.1")]
    public async Task BlockSetIoThrottle(
        [QapiRelaxed, QapiFeature("deprecated")] string? device,
        long bps,
        [QapiName("bps_rd")] long bpsRd,
        [QapiName("bps_wr")] long bpsWr,
        long iops,
        [QapiName("iops_rd")] long iopsRd,
        [QapiName("iops_wr")] long iopsWr,
        [QapiName("bps_max")] long? bpsMax,
        [QapiName("bps_rd_max")] long? bpsRdMax,
        [QapiName("bps_wr_max")] long? bpsWrMax,
        [QapiName("iops_max")] long? iopsMax,
        [QapiName("iops_rd_max")] long? iopsRdMax,
        [QapiName("iops_wr_max")] long? iopsWrMax,
        [QapiName("bps_max_length")] long? bpsMaxLength,
        [QapiName("bps_rd_max_length")] long? bpsRdMaxLength,
        [QapiName("bps_wr_max_length")] long? bpsWrMaxLength,
        [QapiName("iops_max_length")] long? iopsMaxLength,
        [QapiName("iops_rd_max_length")] long? iopsRdMaxLength,
        [QapiName("iops_wr_max_length")] long? iopsWrMaxLength,
        [QapiName("iops_size")] long? iopsSize,
        string? group,
        string? id)
    {
        BlockBackend backend = backends.Resolve(device, id);
        if (backend.Root is not { } root)
        {
            throw new QapiException("Device has no medium");
        }

        ThrottleConfig config = new(
            [
                new ThrottleRate(bps, bpsMax ?? 0, bpsMaxLength ?? 1),
                new ThrottleRate(bpsRd, bpsRdMax ?? 0, bpsRdMaxLength ?? 1),
                new ThrottleRate(bpsWr, bpsWrMax ?? 0, bpsWrMaxLength ?? 1),
                new ThrottleRate(iops, iopsMax ?? 0, iopsMaxLength ?? 1),
                new ThrottleRate(iopsRd, iopsRdMax ?? 0, iopsRdMaxLength ?? 1),
                new ThrottleRate(iopsWr, iopsWrMax ?? 0, iopsWrMaxLength ?? 1),
            ],
            iopsSize ?? 0);
        config.Validate();
        await graph.ChangeDrainedAsync(root, () => backend.SetLimits(groups, group, device ?? id ?? backend.Name, config));
    }
}
