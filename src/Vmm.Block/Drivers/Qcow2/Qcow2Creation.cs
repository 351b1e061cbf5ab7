using Vmm.Block.Drivers.Crypto;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Makes images as operators describe them. Main loop.</summary>
internal static class Qcow2Creation
{
    /// <summary>Turns a node into an empty image. With <see cref="BlockGraph.Changing"/> held.</summary>
    /// <exception cref="Qapi.QapiException">The options contradict each other, or the node cannot be written.</exception>
    internal static async IoTask CreateAsync(
        BlockGraph graph, BlockdevCreateOptionsQcow2 options, Func<string, string> findSecret, LoopWorkers workers)
    {
        NodeOptions inherited = new();
        BlockNode file = await graph.ResolveAsync(options.File, inherited);
        BlockNode? data = null;
        try
        {
            Qcow2CreateOptions image = Translate(options);
            Qcow2Creator.Validate(image, options.DataFile is not null);
            if (options.DataFile is not null)
            {
                data = await graph.ResolveAsync(options.DataFile, inherited);
                image = image with { DataFileName = data.Filename };
            }

            if (options.Encrypt is { } encrypt)
            {
                if (encrypt.Format == QCryptoBlockCreateFormat.Qcow)
                {
                    throw new QapiException(encrypt.Qcow?.KeySecret is null
                        ? "Parameter 'encrypt.key-secret' is required for cipher"
                        : "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators");
                }

                LuksCreateOptions luks = encrypt.Luks ?? new LuksCreateOptions();
                image = image with { CryptoHeader = await LuksCreation.MakeHeaderAsync(luks, "encrypt.", findSecret, workers) };
            }

            await Qcow2Creator.CreateAsync(graph, file, image, data);
        }
        finally
        {
            await graph.CloseIfUnusedAsync(file);
            if (data is not null)
            {
                await graph.CloseIfUnusedAsync(data);
            }
        }
    }

    private static Qcow2CreateOptions Translate(BlockdevCreateOptionsQcow2 options) => new()
    {
        Size = unchecked((long)options.Size),
        Version = options.Version == Qcow2VersionOption.V2 ? 2 : 3,
        ClusterBytes = unchecked((long)(options.ClusterSize ?? 65536)),
        RefcountBits = options.RefcountBits ?? 16,
        LazyRefcounts = options.LazyRefcounts ?? false,
        ExtendedL2 = options.ExtendedL2 ?? false,
        CompressionType = (options.CompressionType ?? Qcow2CompressionOption.Zlib).ToWire(),
        BackingFile = options.BackingFile,
        BackingFormat = options.BackingFmt?.ToWire(),
        DataFileRaw = options.DataFileRaw ?? false,
        Preallocation = (PreallocMode)(options.Preallocation ?? PreallocationOption.Off),
    };
}
