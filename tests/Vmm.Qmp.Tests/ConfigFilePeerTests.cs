using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What the program says of -readconfig, beside what the real QEMU says of the same file.</summary>
public sealed class ConfigFilePeerTests
{
    [TestCase("foo")]
    [TestCase("[foo]\n")]
    [TestCase("[foo \"x\"]\n a=\"1\"\n")]
    [TestCase("a = \"1\"\n")]
    [TestCase("[chardev \"x\"]\n backend = null\n")]
    [TestCase("[chardev \"x\"]\n backend = \"null\"\n foo = \"1\"\n")]
    [TestCase("[chardev \"x\"]\n backend = \"nosuch\"\n")]
    [TestCase("[chardev x]\n backend = \"null\"\n")]
    [TestCase("[chardev]\n backend = \"null\"\n")]
    [TestCase("[chardev \"1x\"]\n backend = \"null\"\n")]
    [TestCase("[chardev \"x\"]\n backend = \"null\"\n[chardev \"x\"]\n backend = \"ringbuf\"\n")]
    [TestCase("[chardev \"x\"]\n backend = \"ringbuf\"\n size = \"x\"\n")]
    [TestCase("# comment\n\n\t[chardev \"x\"]\n\t  backend = \"null\"  \n[mon \"m\"]\n chardev = \"y\"\n")]
    [TestCase("[chardev \"x\"]\n backend = \"null\"\n\n\n bar = \"2\"\n")]
    [TestCase("[chardev \"x\"]\n id = \"y\"\n backend = \"null\"\n[chardev \"y\"]\n backend = \"null\"\n")]
    [TestCase("[object \"x\"]\n qom-type = \"nosuch\"\n")]
    [TestCase("[object]\n qom-type = \"iothread\"\n")]
    [TestCase("[object \"x\"]\n qom-type = \"iothread\"\n foo = \"1\"\n")]
    [TestCase("[object \"x\"]\n qom-type = \"secret\"\n id = \"y\"\n")]
    [TestCase("[object \"x\"]\n qom-type = \"memory-backend-ram\"\n size = \"1M\"\n share = \"x\"\n")]
    [TestCase("[object \"x\"]\n qom-type = \"memory-backend-ram\"\n size = \"1M\"\n host-nodes.0 = \"77\"\n policy=\"bind\"\n")]
    [TestCase("[smp-opts]\n foo = \"1\"\n")]
    [TestCase("[smp-opts]\n cpus = \"7\"\n")]
    [TestCase("[boot-opts]\n order = \"zz\"\n")]
    [TestCase("[memory]\n size = \"64M\"\n slots = \"x\"\n")]
    [TestCase("[memory]\n size = \"64M\"\n slots = \"1\"\n")]
    [TestCase("[device \"d\"]\n driver = \"nosuch\"\n")]
    [TestCase("[mon \"m\"]\n mode = \"foo\"\n chardev = \"x\"\n[chardev \"x\"]\n backend=\"null\"\n")]
    [TestCase("[rtc]\n base = \"x\"\n")]
    [TestCase("[msg]\n timestamp = \"x\"\n")]
    [TestCase("[action]\n panic = \"x\"\n")]
    [TestCase("[chardev \"x\"\n")]
    [TestCase("[]\n")]
    [TestCase("[chardev \"\"]\n backend = \"null\"\n")]
    [TestCase("[machine]\n foo = \"1\"\n")]
    [TestCase("[machine \"x\"]\n foo = \"1\"\n")]
    [TestCase("[machine]\n smp.cpus = \"7\"\n")]
    [TestCase("[machine]\n type.0 = \"x\"\n")]
    [TestCase("[machine]\n 0 = \"x\"\n")]
    [TestCase("[add-fd]\n fd = \"99\"\n set = \"1\"\n")]
    [TestCase("[overcommit]\n mem-lock = \"x\"\n")]
    [TestCase("[set]\n")]
    [TestCase("[chardev \"x\"]\n backend = \"nu\\\"ll\"\n")]
    [TestCase("[chardev \"x\"]\n backend = \"\"\n")]
    [TestCase("[chardev \"x\"]\n = \"null\"\n")]
    [TestCase("[chardev \"x\"]\n backend \"null\"\n")]
    [TestCase(" [chardev \"x\"] junk\n backend = \"nosuch\"\n")]
    [TestCase("[chardev \"x\"]\r\n backend = \"nosuch\"\r\n")]
    [TestCase("[name]\n guest = \"a\"\n[msg]\n guest-name = \"on\"\n[set]\n")]
    public void RefusedAlike(string text)
    {
        string file = Path.Combine(Emulator.NewDirectory(), "config");
        File.WriteAllText(file, text);
        Compare("-readconfig", file);
    }

    [TestCase("-readconfig /nonexistent/x")]
    [TestCase("-readconfig /tmp")]
    [TestCase("-writeconfig x")]
    [TestCase("-set a.b")]
    [TestCase("-set a.b.c")]
    [TestCase("-set nosuch.x.foo=1")]
    [TestCase("-set chardev.x.foo=1")]
    [TestCase("-set machine.x.y=1")]
    [TestCase("-set object.x.y=1")]
    [TestCase("-set .x.y=1")]
    [TestCase("-chardev null,id=a -set chardev.a.foo=1")]
    [TestCase("-chardev null,id=a -set chardev.a.logappend=x")]
    [TestCase("-chardev null,id=a -set chardev.a.logfile=/nonexistent/x")]
    [TestCase("-chardev null,id=a -set chardev.a.logfile=/nonexistent/a=b")]
    public void OptionsRefusedAlike(string line) => Compare(line.Split(' '));

    private static void Compare(params string[] line)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("qemu-system-x86_64 is not installed");
            return;
        }

        string[] arguments = ["-S", "-display", "none", "-nodefaults", "-M", "none", .. line];
        (int expectedStatus, _, string expected) = Emulator.Run(qemu, arguments);
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, arguments);
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(expected));
        Assert.That(status, Is.EqualTo(expectedStatus).And.EqualTo(1));
    }
}
