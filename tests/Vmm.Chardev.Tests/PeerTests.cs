using System.Text.Json.Nodes;
using Vmm.Qapi;
using Vmm.Qapi.Options;
using Vmm.TestKit.Processes;

namespace Vmm.Chardevs.Tests;

/// <summary>The same requests to QEMU and to us: same answers.</summary>
public sealed class PeerTests
{
    private static readonly string[] s_backends =
    [
        "{'type':'null','data':{}}",
        "{'type':'null'}",
        "{'type':'null','data':{'foo':1}}",
        "{}",
        "{'type':'bogus','data':{}}",
        "{'type':'null','data':{'logfile':'DIR/none/x'}}",
        "{'type':'null','data':{'logfile':3}}",
        "{'type':'null','data':{'logfile':'/dev/fdset/9'}}",
        "{'type':'file','data':{'out':'DIR/none/x'}}",
        "{'type':'file','data':{'in':'DIR/none','out':'DIR/out'}}",
        "{'type':'file','data':{'out':'DIR/out','append':true}}",
        "{'type':'file','data':{}}",
        "{'type':'file','data':{'out':'/dev/fdset/x'}}",
        "{'type':'pipe','data':{'device':'DIR/none'}}",
        "{'type':'mux','data':{'chardev':'none'}}",
        "{'type':'ringbuf','data':{}}",
        "{'type':'ringbuf','data':{'size':1000}}",
        "{'type':'ringbuf','data':{'size':-1}}",
        "{'type':'ringbuf','data':{'size':'x'}}",
        "{'type':'memory','data':{'size':4096}}",
        "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1','port':'1234'}}}}",
        "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1','port':''}}}}",
        "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1','port':'x'}}}}",
        "{'type':'udp','data':{'remote':{'type':'unix','data':{'path':'/x'}}}}",
        "{'type':'udp','data':{'remote':{'type':'inet','data':{'host':'127.0.0.1','port':'1'}},"
            + "'local':{'type':'inet','data':{'host':'1.2.3.4','port':'1'}}}}",
        "{'type':'socket','data':{}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s','z':1}}}}",
        "{'type':'socket','data':{'addr':{'type':'none','data':{}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'wait':false}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'telnet':true}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'nodelay':true}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'reconnect':5}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none/s'}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR'}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none'}},'server':false}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none'}},'server':false,'wait':true}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none'}},'server':false,'reconnect':5}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none'}},'server':false,'reconnect':-1}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/none'}},'server':false,'websocket':true}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/LONG'}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'LONG','abstract':true}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'vmm-DIR','abstract':true}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'vmm-DIR-l','abstract':true,'tight':false}}}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'tls-creds':'t'}}",
        "{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'DIR/s'}},'tls-authz':'t'}}",
        "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'none'}}}}",
        "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'1'}},'server':false}}",
        "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'none'}},'reconnect':1}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'1'}},'server':false}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'x'}},'server':false}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'1 '}},'server':false}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'1.2.3.4','port':'0'}}}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'0','ipv6':true,'ipv4':false}}}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'0','ipv6':false,'ipv4':false}}}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'0','to':70000}}}}",
        "{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'0','to':'x'}}}}",
    ];

    private static readonly string[] s_options =
    [
        "null",
        "bogus,id=x",
        "id=x",
        "null,id=1x",
        "null,id=x,foo=1",
        "null,id=x,mux=zz",
        "null,id=x,logfile=DIR/none/l",
        "socket,id=x,path=/a,host=b",
        "socket,id=x,fd=1,host=a",
        "socket,id=x,host=1",
        "socket,id=x",
        "socket,id=x,fd=foo",
        "socket,id=x,fd=99",
        "socket,id=x,path=DIR/none/y,server=on",
        "socket,id=x,path=DIR/none,wait=on",
        "socket,id=x,path=DIR/none,wait=foo",
        "socket,id=x,path=DIR/none,websocket=on",
        "socket,id=x,path=DIR/none,nodelay=on,delay=on",
        "socket,id=x,path=DIR/none,server=on,reconnect=1",
        "socket,id=x,path=DIR/none,tls-creds=z",
        "socket,id=x,fd=9,reconnect=1",
        "socket,id=x,path=DIR/none",
        "socket,id=x,host=127.0.0.1,port=1,to=zz",
        "socket,id=x,host=127.0.0.1,port=1,ipv4=off,ipv6=off",
        "file,id=x",
        "file,id=x,path=DIR/none/a",
        "pipe,id=x",
        "pipe,id=x,path=DIR/none",
        "udp,id=x",
        "udp,id=x,host=a",
        "udp,id=x,port=1,ipv4=zz",
        "mux,id=x",
        "mux,id=x,chardev=y",
        "ringbuf,id=x,size=3",
        "ringbuf,id=x,size=zz",
        "stdio,id=x,signal=maybe",
        "console,id=x",
    ];

    private string _directory = "";

    [SetUp]
    public void SetUp()
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("QEMU is not installed");
        }

        _directory = Directory.CreateTempSubdirectory("vmm-peer").FullName;
    }

    [TearDown]
    public void TearDown()
    {
        if (_directory.Length > 0)
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    [Test]
    public void ChardevAdd_AnswersAlike()
    {
        using var world = new ChardevWorld();
        var table = new CommandTable();
        ChardevsCatalog.Register(table, new ChardevCommands(world.Registry), new FdCommands(world.Fds));
        using Emulator qemu = Emulator.StartQemu("-machine", "none", "-nodefaults", "-display", "none");
        using QmpClient client = qemu.Qmp();
        Assert.Multiple(() =>
        {
            for (int i = 0; i < s_backends.Length; i++)
            {
                // A fresh id each time: QEMU's asynchronous attempts to connect keep an id taken after its removal.
                string id = $"x{i}";
                string arguments = Expand($"{{'id':'{id}','backend':{s_backends[i]}}}");
                string theirs = Theirs(client, "chardev-add", arguments);
                string theirName = NameOf(id, Theirs(client, "query-chardev", "{}"));
                Theirs(client, "chardev-remove", $"{{'id':'{id}'}}");
                string ours = Ours(world, table, "chardev-add", arguments);
                string ourName = NameOf(id, Ours(world, table, "query-chardev", "{}"));
                Ours(world, table, "chardev-remove", $"{{'id':'{id}'}}");
                Assert.That(ours, Is.EqualTo(theirs), arguments);
                Assert.That(ourName, Is.EqualTo(theirName), arguments);
            }
        });
    }

    [Test]
    public void ChardevOption_FailsAlike()
    {
        Assert.Multiple(() =>
        {
            foreach (string option in s_options)
            {
                string text = Expand(option);
                (int status, _, string errors) = Emulator.Run(
                    Emulator.RealQemu!, "-machine", "none", "-nodefaults", "-display", "none", "-chardev", text);
                string prefix = $"qemu-system-x86_64: -chardev {text}: ";
                Assert.That(status, Is.EqualTo(1), text);
                Assert.That(OurOptionError(text), Is.EqualTo(errors.Replace(prefix, "", StringComparison.Ordinal)), text);
            }
        });
    }

    private static string OurOptionError(string text)
    {
        using var world = new ChardevWorld();
        try
        {
            QemuOpts opts = OptsParser.Parse(
                new OptsList(ChardevOptions.Group), text, implied: true, location: null, SilentOptionDiagnostics.Instance)!;
            world.Registry.Add(opts, null);
            return "success\n";
        }
        catch (QapiException e)
        {
            return e.Desc + "\n" + (e.Hint is null ? "" : e.Hint + "\n");
        }
    }

    private static string Theirs(QmpClient client, string command, string arguments)
    {
        JsonObject reply = client.ExecuteRaw(command, (JsonObject)JsonNode.Parse(arguments.Replace('\'', '"'))!);
        return reply["error"] is JsonObject error ? $"{error["class"]}: {error["desc"]}" : reply["return"]!.ToJsonString();
    }

    private static string Ours(ChardevWorld world, CommandTable table, string command, string arguments)
    {
        Assert.That(table.TryGet(command, out CommandEntry? entry));
        var writer = new JsonWriter();
        try
        {
            Task running = entry!.Invoke((QDict)QValue.Parse(arguments), new FakeSession(), writer).AsTask();
            world.Until(() => running.IsCompleted);
            running.GetAwaiter().GetResult();
            return JsonNode.Parse(writer.WrittenCount == 0 ? "{}" : System.Text.Encoding.UTF8.GetString(writer.WrittenSpan))!.ToJsonString();
        }
        catch (QapiException e)
        {
            return $"{e.ErrorClass}: {e.Desc}";
        }
    }

    private static string NameOf(string id, string list)
    {
        if (JsonNode.Parse(list) is JsonArray entries)
        {
            foreach (JsonNode? entry in entries)
            {
                if ((string?)entry!["label"] == id)
                {
                    return entry.ToJsonString();
                }
            }
        }

        return "none";
    }

    private string Expand(string text) => text
        .Replace("DIR", _directory, StringComparison.Ordinal)
        .Replace("LONG", new string('l', 120), StringComparison.Ordinal);
}
