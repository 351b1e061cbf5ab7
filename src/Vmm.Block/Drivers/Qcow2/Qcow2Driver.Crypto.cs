using System.Buffers.Binary;
using System.Text;
using Vmm.Block.Drivers.Crypto;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Encryption of guest data: a LUKS header within the image, and sectors that are counted by their place in the data file.</content>
public sealed partial class Qcow2Driver
{
    private LuksVolume? _crypto;

    /// <summary>The text of a secret object by its id.</summary>
    internal Func<string, string> FindSecret { get; init; } = static id => throw new QapiException($"No secret with id '{id}'");

    /// <inheritdoc/>
    public override bool IsEncrypted => _crypto is not null;

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        if (_options.Encrypt?.GetKeySecret() is { } secret)
        {
            options["encrypt.key-secret"] = secret;
        }
    }

    /// <summary>Has a new image without data encrypt what will be written.</summary>
    /// <param name="header">LUKS header with its key slots.</param>
    /// <exception cref="QapiException">It cannot be written.</exception>
    internal async IoTask InstallCryptoAsync(byte[] header)
    {
        await _lock.EnterAsync();
        try
        {
            long clusters = (header.Length + Header.ClusterBytes - 1L) >> Header.ClusterBits;
            long place = await _metadata.Refcounts.AllocateAsync(clusters);
            Check((int)Math.Min(place, 0), "Cannot allocate cluster for LUKS header");
            byte[] whole = new byte[clusters << Header.ClusterBits];
            header.CopyTo(whole, 0);
            Check(await _file.WriteBytesAsync(place, whole), "Unable to write encryption header");
            Check(await _metadata.WriteAsync(), "Unable to write encryption header");
            byte[] extension = new byte[16];
            BinaryPrimitives.WriteInt64BigEndian(extension, place);
            BinaryPrimitives.WriteInt64BigEndian(extension.AsSpan(8), header.Length);
            Qcow2Header changed = Header with
            {
                CryptMethod = 2,
                Extensions = [.. Header.Extensions, new Qcow2Extension(Qcow2Format.ExtensionCrypto, extension)],
            };
            Check(await _metadata.WriteHeaderAsync(changed), "Cannot write encryption header");
        }
        finally
        {
            _lock.Exit();
        }
    }

    /// <inheritdoc/>
    public override IoTask AmendAsync(BlockdevAmendOptions amend, bool force)
    {
        if (amend.Qcow2?.Encrypt is not { } encrypt)
        {
            return IoTask.CompletedTask;
        }

        if (_crypto is null)
        {
            throw new QapiException("image is not encrypted, can't amend");
        }

        if (Node.IsReadOnly)
        {
            throw new QapiException("Unable to write LUKS header: " + BlockResult.Text(-(int)Vmm.Interop.Errno.EPERM));
        }

        return encrypt.Luks is { } luks
            ? new LuksAmendment(_crypto, _file.Node, Header.CryptoPlace.Offset, FindSecret, _workers, needsWrites: false).RunAsync(luks, _options.Encrypt?.GetKeySecret(), force)
            : throw new QapiException("Amend can't be used to change the qcow2 encryption format");
    }

    private static void CheckEncryption(Qcow2Header header, BlockdevQcow2Encryption? option)
    {
        if (option is null or { IsKindOfImage: true })
        {
            return;
        }

        string format = option.Format.ToWire();
        if (header.CryptMethod == 0)
        {
            throw new QapiException($"No encryption in image header, but options specified format '{format}'");
        }

        if (format != "luks")
        {
            throw new QapiException($"Header reported 'luks' encryption format but options specify '{format}'");
        }
    }

    private async IoTask OpenCryptoAsync()
    {
        if (Header.CryptMethod == 0)
        {
            return;
        }

        string secret = _options.Encrypt?.GetKeySecret() ?? throw new QapiException("Parameter 'encrypt.key-secret' is required for cipher");
        byte[] password = Encoding.UTF8.GetBytes(FindSecret(secret));
        _crypto = await LuksVolume.OpenAsync(_file.Node, Header.CryptoPlace.Offset, password, _workers);
    }

    private IoTask<int> ReadDataAsync(long place, IoVectors data) =>
        _crypto is null ? Data.ReadAsync(place, data) : _crypto.ReadAsync(Data, place, place / LuksHeader.SectorBytes, data);

    private IoTask<int> WriteDataAsync(long place, IoVectors data) =>
        _crypto is null ? Data.WriteAsync(place, data) : _crypto.WriteAsync(Data, place, place / LuksHeader.SectorBytes, data);

    private void DescribeCrypto(QDict data)
    {
        if (_crypto is not null)
        {
            QDict encrypt = _crypto.Header.Describe();
            encrypt["format"] = "luks";
            data["encrypt"] = encrypt;
        }
    }
}
