using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.IoTool;

/// <summary>A read or write as a line asks for it.</summary>
internal sealed class Transfer : IDisposable
{
    private const byte ReadFill = 0xab;
    private const byte WriteFill = 0xcd;

    private readonly string _name;
    private readonly IoArguments _arguments;
    private readonly bool _isWrite;
    private readonly long _offset;
    private readonly long _bytes;
    private readonly byte? _pattern;
    private readonly long _checkFrom;
    private readonly long _checkBytes;
    private readonly NativeBuffer? _buffer;

    internal Transfer(IoCommand command, IoArguments arguments)
    {
        _name = command.Name;
        _arguments = arguments;
        _isWrite = command.Name is "write" or "writev" or "aio_write";
        _pattern = arguments.Pattern;
        bool isSingle = command.Name is "read" or "write";
        if (arguments.Words.Count < 2 || (isSingle && arguments.Words.Count != 2))
        {
            throw new IoUsageException(command.Line);
        }

        _offset = IoText.ParseNumber(arguments.Words[0]);
        for (int i = 1; i < arguments.Words.Count; i++)
        {
            _bytes += IoText.ParseNumber(arguments.Words[i]);
        }

        if (_bytes > BlockResult.MaxRequestBytes)
        {
            throw new IoUsageException($"length cannot exceed {BlockResult.MaxRequestBytes}, given {arguments.Words[^1]}");
        }

        CheckFlags(command);
        bool isChecked = !_isWrite && arguments.Has('s');
        _checkFrom = isChecked ? IoText.ParseNumber(arguments.Value('s')) : 0;
        _checkBytes = arguments.Has('l') ? IoText.ParseNumber(arguments.Value('l')) : _bytes - _checkFrom;
        if (_checkFrom < 0 || _checkFrom > _bytes || _checkBytes > _bytes - _checkFrom)
        {
            throw new IoUsageException("pattern verification range exceeds end of read data");
        }

        if (_bytes > 0 && !arguments.Has('z'))
        {
            _buffer = new NativeBuffer((int)_bytes);
            _buffer.Span[..(int)_bytes].Fill(_isWrite ? _pattern ?? WriteFill : ReadFill);
            if (_isWrite && arguments.Has('s'))
            {
                FillFrom(arguments.Value('s'), _buffer.Span[..(int)_bytes]);
            }
        }
    }

    public void Dispose() => _buffer?.Dispose();

    /// <summary>Makes the request. Loop of the back end.</summary>
    internal async IoTask<int> RunAsync(BlockBackend backend)
    {
        if (_arguments.Has('z'))
        {
            BlockRequestFlags zeroFlags = (_arguments.Has('u') ? BlockRequestFlags.MayUnmap : 0)
                | (_arguments.Has('n') ? BlockRequestFlags.NoFallback : 0) | (_arguments.Has('f') ? BlockRequestFlags.Fua : 0);
            return await backend.WriteZeroesAsync(_offset, _bytes, zeroFlags);
        }

        IoVectors data = IoVectors.Rent();
        if (_buffer is not null)
        {
            data.Add(_buffer, 0, (int)_bytes);
        }

        int result;
        if (!_isWrite)
        {
            result = await backend.ReadAsync(_offset, data);
        }
        else if (_arguments.Has('c'))
        {
            result = backend.Root is { } node ? await node.WriteCompressedAsync(_offset, data) : BlockResult.NoMedium;
        }
        else
        {
            result = await backend.WriteAsync(_offset, data, _arguments.Has('f') ? BlockRequestFlags.Fua : BlockRequestFlags.None);
        }

        data.Return();
        return result;
    }

    /// <summary>What there is to say in the end.</summary>
    internal string Finish(int result, TimeSpan time)
    {
        if (result < 0)
        {
            return $"{(_name == "aio_read" ? "readv" : _name)} failed: {BlockResult.Text(result)}\n";
        }

        string text = "";
        Span<byte> data = _buffer is null ? [] : _buffer.Span[..(int)_bytes];
        if (!_isWrite && _pattern is { } pattern && data.Slice((int)_checkFrom, (int)_checkBytes).ContainsAnyExcept(pattern))
        {
            text = $"Pattern verification failed at offset {_offset + _checkFrom}, {_checkBytes} bytes\n";
        }

        if (_arguments.Has('q'))
        {
            return text;
        }

        if (_arguments.Has('v'))
        {
            text += IoText.Dump(data, _offset);
        }

        return text + IoText.Report(_isWrite ? "wrote" : "read", time, _offset, _bytes, _arguments.Has('C'));
    }

    // The file's contents, again and again.
    private static void FillFrom(string path, Span<byte> data)
    {
        Errno errno = Libc.ReadFile(path, data.Length, out byte[] content);
        if (errno != Errno.OK || content.Length == 0)
        {
            throw new IoUsageException("", $"{path}: {(errno == Errno.OK ? "file is empty" : errno.Message())}\n");
        }

        for (int done = 0; done < data.Length; done += content.Length)
        {
            content.AsSpan(0, Math.Min(content.Length, data.Length - done)).CopyTo(data[done..]);
        }
    }

    private void CheckFlags(IoCommand command)
    {
        bool isZero = _arguments.Has('z');
        string? wrong = null;
        if (_arguments.Has('f') && _arguments.Has('c'))
        {
            wrong = "-f and -b or -c cannot be specified at the same time";
        }
        else if (_name == "write" && _arguments.Has('n') && !isZero)
        {
            wrong = "-n requires -z to be specified";
        }
        else if (_isWrite && _arguments.Has('u') && !isZero)
        {
            wrong = "-u requires -z to be specified";
        }
        else if (_name == "write" && (isZero ? 1 : 0) + (_pattern is null ? 0 : 1) + (_arguments.Has('s') ? 1 : 0) > 1)
        {
            wrong = "Only one of -z, -P, and -s can be specified at the same time";
        }
        else if (_name == "aio_write" && isZero && _arguments.Words.Count > 2)
        {
            wrong = "-z supports only a single length parameter";
        }
        else if (_arguments.Has('c') && isZero)
        {
            wrong = "-c and -z cannot be specified at the same time";
        }
        else if (!_isWrite && _pattern is null && (_arguments.Has('s') || _arguments.Has('l')))
        {
            wrong = command.Line;
        }

        if (wrong is not null)
        {
            throw new IoUsageException(wrong);
        }
    }
}
