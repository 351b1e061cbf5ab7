using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Vmm.Interop;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What clients do to monitors: floods, companions, disappearances, descriptors and signals.</summary>
public sealed class ClientTests
{
    private const int SigTerm = 15;

    [Test]
    public void PipelinedCommandsAreAnsweredInOrder()
    {
        const int count = 1000;
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        StringBuilder requests = new();
        for (int i = 0; i < count; i++)
        {
            requests.Append(CultureInfo.InvariantCulture, $"{{\"execute\":\"{(i % 3 == 0 ? "no-such-command" : "query-status")}\",\"id\":{i}}}");
        }

        // Nothing is read meanwhile: the answers must wait in the process without stopping it.
        client.SendRaw(requests.ToString());
        for (int i = 0; i < count; i++)
        {
            JsonObject answer = client.ReadMessage();
            Assert.That((int)answer["id"]!, Is.EqualTo(i));
            Assert.That(answer.ContainsKey("error"), Is.EqualTo(i % 3 == 0));
        }
    }

    [Test]
    public void EventsReachEveryNegotiatedMonitorAndAnswersOnlyTheirs()
    {
        using Emulator emulator = Monitored.StartWithTwo();
        QmpClient first = emulator.Qmp();
        using QmpClient second = Monitored.Second(emulator);
        second.Negotiate();
        first.Execute("cont");
        Assert.That((string)first.WaitEvent("RESUME")["event"]!, Is.EqualTo("RESUME"));
        Assert.That(second.ReadMessage().ContainsKey("event"), Is.True);
        second.Execute("stop");
        Assert.That((string)first.ReadMessage()["event"]!, Is.EqualTo("STOP"));
        second.WaitEvent("STOP");
        Assert.That((string)first.Execute("query-status")!["status"]!, Is.EqualTo("paused"));
        Assert.That(first.Events, Is.Empty);
        Assert.That(second.Events, Is.Empty);
    }

    [Test]
    public void EventsDoNotReachAMonitorThatHasNotNegotiated()
    {
        using Emulator emulator = Monitored.StartWithTwo();
        QmpClient first = emulator.Qmp();
        using QmpClient second = Monitored.Second(emulator);
        Assert.That(second.ReadMessage().ContainsKey("QMP"), Is.True);
        first.Execute("cont");
        first.WaitEvent("RESUME");
        second.SendRaw("{\"execute\":\"qmp_capabilities\",\"id\":7}");
        Assert.That((int)second.ReadMessage()["id"]!, Is.EqualTo(7));
    }

    [TestCase("{\"execute\":\"query-status\",\"arg")]
    [TestCase("{\"execute\":\"query-status\"}{\"execute\":\"query-name\"}[")]
    [TestCase("\"never closed")]
    [TestCase("")]
    public void AClientThatVanishesLeavesAFreshMonitor(string lastWords)
    {
        using Emulator emulator = Monitored.Start();
        for (int round = 0; round < 3; round++)
        {
            QmpClient gone = emulator.Qmp();
            gone.SendRaw(lastWords);
            gone.Dispose();
            QmpClient client = emulator.QmpRaw();
            Assert.That(client.ReadMessage().ContainsKey("QMP"), Is.True);
            client.SendRaw("{\"execute\":\"query-status\"}");
            Assert.That((string)client.ReadMessage()["error"]!["class"]!, Is.EqualTo("CommandNotFound"), "negotiation starts anew");
            client.Execute("qmp_capabilities");
            Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("prelaunch"));
            client.Dispose();
        }
    }

    [Test]
    public void AClientThatDoesNotReadHurtsNobody()
    {
        const int megabyte = 1 << 20;
        const long mostGrowth = 64 * megabyte;
        using Emulator emulator = Monitored.StartWithTwo();
        QmpClient patient = emulator.Qmp();
        using QmpClient deaf = Monitored.Second(emulator);
        deaf.Negotiate();
        patient.Execute("query-qmp-schema");
        long before = ResidentBytes(emulator);

        // Each request asks for far more than it costs to send; reading must stop long before all of them are taken.
        byte[] request = Encoding.UTF8.GetBytes("{\"execute\":\"query-qmp-schema\"}");
        deaf.Socket.Blocking = false;
        int sent = 0;
        for (int i = 0; i < 2000; i++)
        {
            try
            {
                sent += deaf.Socket.Send(request) == request.Length ? 1 : 0;
            }
            catch (System.Net.Sockets.SocketException e) when (e.SocketErrorCode == System.Net.Sockets.SocketError.WouldBlock)
            {
                break;
            }

            if (i % 100 == 0)
            {
                Assert.That((string)patient.Execute("query-status")!["status"]!, Is.EqualTo("prelaunch"));
            }
        }

        for (int i = 0; i < 20; i++)
        {
            patient.Execute("query-status");
        }

        Assert.That(sent, Is.GreaterThan(0));
        Assert.That(ResidentBytes(emulator) - before, Is.LessThan(mostGrowth));
        patient.Execute("cont");
        patient.WaitEvent("RESUME");
    }

    [Test]
    public void DescriptorsArriveByMessage()
    {
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        Assert.That(Libc.Pipe(0, out SafeFd read, out SafeFd write), Is.EqualTo(default(Errno)));
        using (read)
        using (write)
        {
            SendWith(client, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"mine\"},\"id\":1}", read);
            Assert.That(client.ReadLine(), Is.EqualTo("{\"return\": {}, \"id\": 1}"));
            SendWith(client, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":3,\"opaque\":\"o\"},\"id\":2}", write);
            JsonObject added = client.ReadMessage();
            Assert.That((int)added["return"]!["fdset-id"]!, Is.EqualTo(3));
            int fd = (int)added["return"]!["fd"]!;
            JsonArray sets = (JsonArray)client.Execute("query-fdsets")!;
            Assert.That((int)sets.Single()!["fds"]![0]!["fd"]!, Is.EqualTo(fd));
            Assert.That((string)sets.Single()!["fds"]![0]!["opaque"]!, Is.EqualTo("o"));

            // The descriptor names the pipe of this process in the other one.
            Assert.That(LinkOf(emulator.Process.Id, fd), Is.EqualTo(LinkOf(Environment.ProcessId, write.Fd)));

            // Sets keep what is removed until the machine runs.
            client.Execute("cont");
            client.Execute("remove-fd", $"{{\"fdset-id\":3,\"fd\":{fd}}}");
            Assert.That((JsonArray)client.Execute("query-fdsets")!, Is.Empty);
            client.Execute("closefd", "{\"fdname\":\"mine\"}");
            QmpErrorException error = Assert.Throws<QmpErrorException>(() => client.Execute("closefd", "{\"fdname\":\"mine\"}"))!;
            Assert.That(error.Desc, Is.EqualTo("File descriptor named 'mine' not found"));
        }
    }

    [Test]
    public void TerminationSignalShutsDown()
    {
        using Emulator emulator = Monitored.StartWithTwo();
        QmpClient first = emulator.Qmp();
        using QmpClient second = Monitored.Second(emulator);
        second.Negotiate();
        Assert.That(Libc.Kill(emulator.Process.Id, SigTerm), Is.EqualTo(default(Errno)));
        foreach (QmpClient client in new[] { first, second })
        {
            JsonObject data = (JsonObject)client.WaitEvent("SHUTDOWN")["data"]!;
            Assert.That((string)data["reason"]!, Is.EqualTo("host-signal"));
            Assert.That((bool)data["guest"]!, Is.False);
            client.WaitClosed();
        }

        Assert.That(emulator.WaitExit(), Is.Zero);
        Assert.That(emulator.Errors, Does.Contain($"terminating on signal 15 from pid {Environment.ProcessId} ("));
    }

    [Test]
    public void QuitAnswersAndEnds()
    {
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        client.SendRaw("{\"execute\":\"quit\",\"id\":1}");
        Assert.That(client.ReadLine(), Does.Contain("\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}"));
        Assert.That(client.ReadLine(), Is.EqualTo("{\"return\": {}, \"id\": 1}"));
        client.WaitClosed();
        Assert.That(emulator.WaitExit(), Is.Zero);
        Assert.That(File.Exists(emulator.QmpPath), Is.False, "the socket is removed");
    }

    [Test]
    public void DaemonLeavesItsNumberAndServes()
    {
        string pidFile = Path.Combine(Path.GetTempPath(), $"vmm-qmp-tests-{Environment.ProcessId}.pid");
        using Emulator emulator = Monitored.Start("-daemonize", "-pidfile", pidFile);

        // The foreground process ends only once the daemon serves.
        Assert.That(emulator.WaitExit(), Is.Zero, emulator.Errors);
        Assert.That(emulator.Errors, Is.Empty);
        int pid = int.Parse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture);
        using QmpClient client = QmpClient.Connect(emulator.QmpPath, () => false);
        client.Negotiate();
        Assert.That((string)client.Execute("query-status")!["status"]!, Is.EqualTo("prelaunch"));
        Assert.That(Libc.Kill(pid, SigTerm), Is.EqualTo(default(Errno)));
        Assert.That((string)client.WaitEvent("SHUTDOWN")["data"]!["reason"]!, Is.EqualTo("host-signal"));
        client.WaitClosed();
        Assert.That(SpinWait.SpinUntil(() => !File.Exists(pidFile), TimeSpan.FromSeconds(30)), Is.True, "the pid file is removed");
    }

    private static void SendWith(QmpClient client, string text, SafeFd fd)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Assert.That(Libc.SendWithFds((int)client.Socket.Handle, bytes, [fd.Fd]), Is.EqualTo(bytes.Length));
    }

    private static string? LinkOf(int pid, int fd) => new FileInfo($"/proc/{pid}/fd/{fd}").LinkTarget;

    private static long ResidentBytes(Emulator emulator)
    {
        string pages = File.ReadAllText($"/proc/{emulator.Process.Id}/statm").Split(' ')[1];
        return long.Parse(pages, CultureInfo.InvariantCulture) * Environment.SystemPageSize;
    }
}
