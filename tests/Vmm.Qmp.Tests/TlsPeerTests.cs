using System.Text.Json.Nodes;
using Vmm.Interop.Tls;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Tls;

namespace Vmm.Qmp.Tests;

/// <summary>What is said of TLS credentials, and to clients of an NBD server that needs TLS, beside what the real QEMU says.</summary>
public sealed class TlsPeerTests
{
    private string _folder = null!;

    [SetUp]
    public void NeedPeers()
    {
        if (Emulator.RealQemu is null || !GnuTls.IsAvailable)
        {
            Assert.Ignore("qemu-system-x86_64 or libgnutls.so.30 is not installed");
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFiles()
    {
        if (_folder is not null)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Test]
    public void CredentialsAreJudgedAlike()
    {
        List<string> requests = [];
        MakeFolders();
        foreach (string path in Directory.GetDirectories(_folder).Order(StringComparer.Ordinal))
        {
            foreach (string end in (string[])["server", "client"])
            {
                AddAndDelete(requests, "x509", end, path);
                AddAndDelete(requests, "x509", end, path, ",'sanity-check':false");
            }
        }

        string good = Path.Combine(_folder, "good");
        AddAndDelete(requests, "psk", "server", good);
        AddAndDelete(requests, "psk", "server", good, ",'username':'alice'");
        AddAndDelete(requests, "psk", "client", good);
        AddAndDelete(requests, "psk", "client", good, ",'username':'alice'");
        AddAndDelete(requests, "psk", "client", good, ",'username':'nobody'");
        AddAndDelete(requests, "psk", "client", Path.Combine(_folder, "bad-psk"), ",'username':'alice'");
        AddAndDelete(requests, "psk", "server", Path.Combine(_folder, "empty"));
        AddAndDelete(requests, "anon", "server", good);
        AddAndDelete(requests, "anon", "client", Path.Combine(_folder, "nowhere"));
        AddAndDelete(requests, "anon", "server", Path.Combine(_folder, "bad-dh"));
        requests.Add("{'execute':'object-add','arguments':{'qom-type':'secret','id':'pw','data':'open sesame'}}");
        requests.Add("{'execute':'object-add','arguments':{'qom-type':'secret','id':'wrong','data':'sesame'}}");
        AddAndDelete(requests, "x509", "server", Path.Combine(_folder, "locked"), ",'passwordid':'pw'");
        AddAndDelete(requests, "x509", "server", Path.Combine(_folder, "locked"), ",'passwordid':'wrong'");
        AddAndDelete(requests, "x509", "server", Path.Combine(_folder, "locked"), ",'passwordid':'none'");
        AddAndDelete(requests, "x509", "server", good, ",'priority':'NONSENSE','verify-peer':false");
        AddAndDelete(requests, "x509", "server", good, ",'loaded':true");
        AddAndDelete(requests, "x509", "both", good);
        foreach (string kind in (string[])["x509", "psk", "anon"])
        {
            requests.Add($$"""{'execute':'object-add','arguments':{'qom-type':'tls-creds-{{kind}}','id':'t'} }""");
            requests.Add("{'execute':'object-del','arguments':{'id':'t'}}");
            requests.Add($$"""{'execute':'qom-list-properties','arguments':{'typename':'tls-creds-{{kind}}'} }""");
        }

        Compare(requests);
    }

    [Test]
    public void WithoutTheLibraryThereAreNoCredentials()
    {
        File.WriteAllText(Path.Combine(_folder, "libgnutls.so.30"), "no library");
        (int status, _, string errors) = Emulator.Run(
            "/usr/bin/env", "LD_LIBRARY_PATH=" + _folder, Emulator.OurBinary, "-M", "none", "-display", "none", "-nodefaults", "-S", "-object", "tls-creds-anon,id=t");
        Assert.That(errors, Does.EndWith(": TLS credentials support requires GNUTLS\n"));
        Assert.That(status, Is.EqualTo(1));
    }

    [Test]
    public void AuthorizationsAreMadeAlike()
    {
        List<string> requests = [];
        foreach (string more in (string[])[
            "'qom-type':'authz-simple'", "'qom-type':'authz-simple','identity':'fred'", "'qom-type':'authz-list'",
            "'qom-type':'authz-list','policy':'maybe'", "'qom-type':'authz-list','rules':[{'match':'a'}]",
            "'qom-type':'authz-list','rules':[{'match':'a','policy':'allow','format':'wild'}]",
            "'qom-type':'authz-list','policy':'allow','rules':[{'match':'a','policy':'allow'},{'match':'b*','policy':'deny','format':'glob'}]"])
        {
            requests.Add($$"""{'execute':'object-add','arguments':{'id':'t',{{more}} } }""");
            requests.Add("{'execute':'qom-list','arguments':{'path':'/objects/t'}}");
            foreach (string property in (string[])["identity", "policy", "rules"])
            {
                requests.Add($$"""{'execute':'qom-get','arguments':{'path':'/objects/t','property':'{{property}}'} }""");
            }

            requests.Add("{'execute':'qom-set','arguments':{'path':'/objects/t','property':'rules','value':[{'match':'x','policy':'deny','foo':1}]}}");
            requests.Add("{'execute':'qom-get','arguments':{'path':'/objects/t','property':'rules'}}");
            requests.Add("{'execute':'object-del','arguments':{'id':'t'}}");
        }

        Compare(requests);
    }

    [Test]
    public void UsersOfCredentialsAreRefusedAlike()
    {
        TlsFiles good = TlsFiles.Full(Path.Combine(_folder, "good"));
        List<string> requests = [];
        foreach (string end in (string[])["server", "client"])
        {
            requests.Add(Object("x509", end, good.Folder, "", end));
        }

        requests.Add("{'execute':'object-add','arguments':{'qom-type':'secret','id':'sec','data':'x'}}");
        foreach (string id in (string[])["none", "sec", "client", "server"])
        {
            requests.Add(
                $$"""{'execute':'nbd-server-start','arguments':{'addr':{'type':'unix','data':{'path':'DIR/nbd'} },'tls-creds':'{{id}}','tls-authz':'none'} }""");
            requests.Add("{'execute':'nbd-server-stop'}");
            requests.Add(
                $$"""{'execute':'blockdev-add','arguments':{'driver':'nbd','node-name':'n','server':{'type':'unix','path':'DIR/none'},'tls-creds':'{{id}}'} }""");
            foreach (string address in (string[])["'type':'inet','data':{'host':'127.0.0.1','port':'0'}", "'type':'unix','data':{'path':'DIR/c'}", "'type':'fd','data':{'str':'x'}"])
            {
                requests.Add(
                    $$"""{'execute':'chardev-add','arguments':{'id':'c','backend':{'type':'socket','data':{'addr':{ {{address}} },'server':true,'wait':false,'tls-creds':'{{id}}'} } } }""");
                requests.Add("{'execute':'chardev-remove','arguments':{'id':'c'}}");
            }
        }

        Compare(requests);
    }

    private static string Object(string kind, string end, string folder, string more, string id) =>
        $$"""{'execute':'object-add','arguments':{'qom-type':'tls-creds-{{kind}}','id':'{{id}}','endpoint':'{{end}}','dir':'{{folder}}'{{more}} } }""";

    private static void AddAndDelete(List<string> requests, string kind, string end, string folder, string more = "")
    {
        requests.Add(Object(kind, end, folder, more, "t"));
        requests.Add("{'execute':'object-del','arguments':{'id':'t'}}");
    }

    private void MakeFolders()
    {
        TlsFiles Full(string name) => TlsFiles.Full(Path.Combine(_folder, name));
        TestCertificate authority = TestCertificate.Authority;
        TestCertificate server = TestCertificate.Server;
        TestCertificate client = TestCertificate.Client;
        const System.Security.Cryptography.X509Certificates.X509KeyUsageFlags Sign =
            System.Security.Cryptography.X509Certificates.X509KeyUsageFlags.KeyCertSign;
        const System.Security.Cryptography.X509Certificates.X509KeyUsageFlags Agree =
            System.Security.Cryptography.X509Certificates.X509KeyUsageFlags.KeyAgreement;
        Full("good");
        new TlsFiles(Path.Combine(_folder, "empty"));
        new TlsFiles(Path.Combine(_folder, "authority-only")).Authority();
        new TlsFiles(Path.Combine(_folder, "no-server-key")).Authority().Server().Put("x", "");
        File.Delete(Path.Combine(_folder, "no-server-key", "server-key.pem"));
        Full("authority-old").Authority(authority with { FromDays = -10, ToDays = -1 });
        Full("authority-new").Authority(authority with { FromDays = 5 });
        Full("authority-not").Authority(authority with { IsAuthority = false });
        Full("authority-unsaid").Authority(authority with { IsAuthority = null });
        Full("authority-use").Authority(authority with { Usage = Agree });
        Full("authority-use-soft").Authority(authority with { Usage = Agree, IsUsageCritical = false });
        Full("authority-use-unsaid").Authority(authority with { Usage = null });
        Full("authority-other").Authority(isOther: true);
        Full("authority-junk").Put("ca-cert.pem", "junk");
        Full("old").Server(server with { FromDays = -10, ToDays = -1 }).Client(client with { FromDays = -10, ToDays = -1 });
        Full("new").Server(server with { FromDays = 5 }).Client(client with { FromDays = 5 });
        Full("is-authority").Server(server with { IsAuthority = true, Usage = Sign }).Client(client with { IsAuthority = true });
        Full("constraints-unsaid").Server(server with { IsAuthority = null }).Client(client with { IsAuthority = null });
        Full("use").Server(server with { Usage = Agree }).Client(client with { Usage = Agree });
        Full("use-soft").Server(server with { Usage = Agree, IsUsageCritical = false }).Client(client with { Usage = null });
        Full("purpose").Server(server with { Purpose = client.Purpose, IsPurposeCritical = true }).Client(client with { Purpose = server.Purpose, IsPurposeCritical = true });
        Full("purpose-soft").Server(server with { Purpose = client.Purpose }).Client(client with { Purpose = null });
        Full("purpose-any").Server(server with { Purpose = "2.5.29.37.0", IsPurposeCritical = true });
        Full("cert-junk").Put("server-cert.pem", "junk").Put("client-cert.pem", "junk");
        Full("key-junk").Put("server-key.pem", "junk").Put("client-key.pem", "junk");
        TlsFiles swapped = Full("key-other");
        File.Copy(swapped.PathOf("client-key.pem"), swapped.PathOf("server-key.pem"), overwrite: true);
        Full("locked").EncryptServerKey("open sesame");
        Full("bad-crl").Put("ca-crl.pem", "junk");
        Full("bad-dh").Put("dh-params.pem", "junk");
        Full("bad-psk").Psk("alice:zz\n");
    }

    private static void Compare(List<string> requests)
    {
        using Emulator ours = Monitored.Start();
        using Emulator theirs = Monitored.StartQemu();
        QmpClient ourClient = ours.Qmp();
        QmpClient theirClient = theirs.Qmp();
        Assert.Multiple(() =>
        {
            foreach (string request in requests)
            {
                Assert.That(Ask(ours, ourClient, request), Is.EqualTo(Ask(theirs, theirClient, request)), request);
            }
        });
    }

    private static string Ask(Emulator emulator, QmpClient client, string request)
    {
        var line = (JsonObject)JsonNode.Parse(request.Replace('\'', '"').Replace("DIR", emulator.Directory, StringComparison.Ordinal))!;
        return client.ExecuteRaw((string)line["execute"]!, (JsonObject?)line["arguments"]?.DeepClone()).ToJsonString()
            .Replace(emulator.Directory, "DIR", StringComparison.Ordinal);
    }
}
