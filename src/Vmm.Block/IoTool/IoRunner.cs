using System.Diagnostics;
using System.Text;
using Vmm.Block.Backend;
using Vmm.Block.Drivers.Debug;
using Vmm.Block.Graph;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.IoTool;

/// <summary>Runs lines of qemu-io over back ends: single requests for tests. Home: main loop.</summary>
internal sealed partial class IoRunner(BlockGraph graph, Action<string> print, Action<string> complain)
{
    private readonly LoopWaitQueue _ended = new();
    private int _pending;

    /// <summary>Runs a line and prints what it has to say.</summary>
    /// <exception cref="QapiException">The medium cannot be had for it.</exception>
    /// <param name="backend">The back end.</param>
    /// <param name="line">The line.</param>
    /// <param name="context">The terminal, for what is not printed.</param>
    /// <param name="ended">Called later, when nothing of what goes on does so any more.</param>
    /// <returns>True when something of it goes on.</returns>
    internal async Task<bool> RunAsync(BlockBackend backend, string line, HmpContext context, Action? ended = null)
    {
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0)
        {
            return false;
        }

        IoCommand? command = Array.Find(IoCommand.All, c => c.Name == words[0]);
        if (command is null)
        {
            complain($"command \"{words[0]}\" not found\n");
            return false;
        }

        try
        {
            if (command.CheckCount(words.Length - 1) is { } wrong)
            {
                throw new IoUsageException("", wrong + "\n");
            }

            return await StartAsync(backend, command, new IoArguments(command, words.AsSpan(1)), context, ended);
        }
        catch (IoUsageException e)
        {
            if (e.Complaint is { } complaint)
            {
                complain(complaint);
            }

            if (e.Message.Length > 0)
            {
                print(e.Message + "\n");
            }
        }

        return false;
    }

    private async Task<bool> StartAsync(BlockBackend backend, IoCommand command, IoArguments arguments, HmpContext context, Action? ended)
    {
        if (command.Permissions != BlockPermissions.None)
        {
            backend.AddPermissions(command.Permissions);
        }

        List<string> words = arguments.Words;
        switch (command.Name)
        {
            case "aio_flush":
                await WaitAllAsync();
                break;
            case "aio_read":
            case "aio_write":
                return StartLate(backend, command, arguments, ended);
            case "read":
            case "readv":
            case "write":
            case "writev":
                print(await TransferAsync(backend, command, arguments));
                break;
            case "discard":
                print(await DiscardAsync(backend, arguments));
                break;
            case "flush":
                await OnLoop(backend, backend.FlushAsync);
                break;
            case "alloc":
                print(await AllocatedAsync(backend, words));
                break;
            case "map":
                print(await MapAsync(backend));
                break;
            case "length":
                print((backend.Length < 0 ? "getlength: " + BlockResult.Text((int)backend.Length) : IoText.Size((backend.Length + 511) & ~511L)) + "\n");
                break;
            case "truncate":
                await TruncateAsync(backend, command, arguments);
                break;
            case "sleep":
                await SleepAsync(IoText.ParseMilliseconds(words[0]));
                break;
            case "info":
                ShowInfo(backend, context);
                break;
            case "reopen":
                await ReopenAsync(backend, command, arguments);
                break;
            case "abort":
                Raise(Libc.SIGABRT);
                break;
            case "sigraise":
                Raise((int)Math.Min(IoText.ParseNumber(words[0]), int.MaxValue));
                break;
            case "help":
                print(Help(words.Count > 0 ? words[0] : null));
                break;
            default:
                await BreakAsync(backend, command.Name, words);
                break;
        }

        return false;
    }

    private static string Help(string? name)
    {
        StringBuilder text = new();
        foreach (IoCommand command in IoCommand.All)
        {
            if (name is null || name == command.Name)
            {
                text.Append(command.Line).Append('\n');
            }
        }

        return text.Length == 0 ? $"command {name} not found\n" : name is null ? text + "\nUse 'help commandname' for extended help.\n" : text.ToString();
    }

    private async Task<int> OnLoop(BlockBackend backend, Func<IoTask<int>> request) => await OnLoopAsync(backend, request);

    private async IoTask<int> OnLoopAsync(BlockBackend backend, Func<IoTask<int>> request)
    {
        await backend.Loop.SwitchTo();
        int result = await request();
        await graph.MainLoop.SwitchTo();
        return result;
    }

    private bool StartLate(BlockBackend backend, IoCommand command, IoArguments arguments, Action? ended)
    {
        // What is wrong with the line is said at once.
        Transfer transfer = new(command, arguments);
        if (arguments.Has('i'))
        {
            bool isWrite = command.Name == "aio_write";
            print($"injecting invalid {(isWrite ? "write" : "read")} request\n");
            backend.Accounting.Refused(isWrite ? AccountedKind.Write : AccountedKind.Read);
            transfer.Dispose();
            return false;
        }

        _pending++;
        RunLateAsync(backend, transfer, ended).Forget();
        return true;
    }

    private async IoTask RunLateAsync(BlockBackend backend, Transfer transfer, Action? ended)
    {
        long start = Stopwatch.GetTimestamp();
        int result = await OnLoopAsync(backend, () => transfer.RunAsync(backend));
        print(transfer.Finish(result, Stopwatch.GetElapsedTime(start)));
        transfer.Dispose();
        _pending--;
        ended?.Invoke();
        _ended.WakeAll();
    }

    private async Task WaitAllAsync()
    {
        while (_pending > 0)
        {
            await _ended.WaitAsync().AsTask();
        }
    }

    private async Task<string> TransferAsync(BlockBackend backend, IoCommand command, IoArguments arguments)
    {
        using Transfer transfer = new(command, arguments);
        long start = Stopwatch.GetTimestamp();
        int result = await OnLoop(backend, () => transfer.RunAsync(backend));
        return transfer.Finish(result, Stopwatch.GetElapsedTime(start));
    }

    private async Task<string> DiscardAsync(BlockBackend backend, IoArguments arguments)
    {
        long offset = IoText.ParseNumber(arguments.Words[0]);
        long bytes = IoText.ParseNumber(arguments.Words[1]);
        long start = Stopwatch.GetTimestamp();
        int result = await OnLoop(backend, () => backend.DiscardAsync(offset, bytes));
        return result < 0 ? $"discard failed: {BlockResult.Text(result)}\n"
            : arguments.Has('q') ? ""
            : IoText.Report("discard", Stopwatch.GetElapsedTime(start), offset, bytes, arguments.Has('C'));
    }

    private async Task<string> AllocatedAsync(BlockBackend backend, List<string> words)
    {
        long offset = IoText.ParseNumber(words[0]);
        long bytes = words.Count > 1 ? IoText.ParseNumber(words[1]) : 512;
        long sum = 0;
        for (long done = 0; done < bytes;)
        {
            (int result, bool isAllocated, long part) = await StatusAsync(backend, offset + done, bytes - done);
            if (result < 0)
            {
                return $"is_allocated failed: {BlockResult.Text(result)}\n";
            }

            if (part == 0)
            {
                // The medium ends here.
                bytes = done;
                break;
            }

            sum += isAllocated ? part : 0;
            done += part;
        }

        return $"{sum}/{bytes} bytes allocated at offset {IoText.Size(offset)}\n";
    }

    private async Task<string> MapAsync(BlockBackend backend)
    {
        long length = backend.Length;
        if (length < 0)
        {
            return $"Failed to query image length: {BlockResult.Text((int)length)}\n";
        }

        if (length == 0)
        {
            return "Nothing allocated\n";
        }

        StringBuilder text = new();
        for (long offset = 0; offset < length;)
        {
            (int result, bool isAllocated, long bytes) = await StatusAsync(backend, offset, length - offset);
            bool isSame = true;
            while (result >= 0 && isSame && bytes > 0 && offset + bytes < length)
            {
                (result, bool next, long part) = await StatusAsync(backend, offset + bytes, length - offset - bytes);
                isSame = next == isAllocated && part > 0;
                bytes += isSame ? part : 0;
            }

            if (result < 0 || bytes == 0)
            {
                return text + (result < 0 ? $"Failed to get allocation status: {BlockResult.Text(result)}\n" : "Unexpected end of image\n");
            }

            text.Append($"{IoText.Size(bytes)} (0x{bytes:x}) bytes {(isAllocated ? "    allocated" : "not allocated")} at offset {IoText.Size(offset)} (0x{offset:x})\n");
            offset += bytes;
        }

        return text.ToString();
    }

    private async Task<(int Result, bool IsAllocated, long Bytes)> StatusAsync(BlockBackend backend, long offset, long bytes)
    {
        if (backend.Root is not { } node)
        {
            return (BlockResult.NoMedium, false, 0);
        }

        BlockStatus status = default;
        int result = await OnLoop(backend, async () =>
        {
            status = await node.StatusAsync(offset, bytes, wantZero: false);
            return status.Result;
        });

        return (result, (status.Flags & BlockStatusFlags.Allocated) != 0, Math.Min(status.Bytes, bytes));
    }

    private async Task TruncateAsync(BlockBackend backend, IoCommand command, IoArguments arguments)
    {
        PreallocMode mode = !arguments.Has('m') ? PreallocMode.Off : arguments.Value('m') switch
        {
            "off" => PreallocMode.Off,
            "metadata" => PreallocMode.Metadata,
            "falloc" => PreallocMode.Falloc,
            "full" => PreallocMode.Full,
            { } other => throw new QapiException($"Invalid preallocation mode '{other}'"),
        };
        if (arguments.Words.Count != 1)
        {
            throw new IoUsageException(command.Line);
        }

        long length = IoText.ParseNumber(arguments.Words[0]);
        BlockNode node = backend.Root ?? throw new QapiException(BlockResult.Text(BlockResult.NoMedium));
        await OnLoop(backend, async () =>
        {
            await node.TruncateAsync(length, exact: false, mode);
            return 0;
        });
    }

    private async Task SleepAsync(long milliseconds)
    {
        LoopWaitQueue woken = new();
        using LoopTimer timer = graph.MainLoop.CreateTimer(ClockType.Host, woken.WakeAll);
        timer.ArmAfter(milliseconds * 1_000_000);
        await woken.WaitAsync().AsTask();
    }

    private async Task BreakAsync(BlockBackend backend, string command, List<string> words)
    {
        BlkdebugDriver? debug = BlkdebugDriver.Below(backend.Root);
        string tag = words[^1];
        string notFound = BlockResult.Text(debug is null ? BlockResult.NotSupported : -(int)Errno.ENOENT);
        switch (command)
        {
            case "break" when debug is null || !debug.Break(words[0], tag):
                print($"Could not set breakpoint: {notFound}\n");
                break;
            case "remove_break" when debug is null || !debug.RemoveBreak(tag):
                print($"Could not remove breakpoint {tag}: {notFound}\n");
                break;
            case "resume" when debug is null || !debug.Resume(tag):
                print($"Could not resume request: {notFound}\n");
                break;
            case "wait_break" when debug is null:
                throw new QapiException("There is no breakpoint that a request could reach");
            case "wait_break":
                while (!debug.IsStopped(tag))
                {
                    await SleepAsync(1);
                }

                break;
        }
    }
}
