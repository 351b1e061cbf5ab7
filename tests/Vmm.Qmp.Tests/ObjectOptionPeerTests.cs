using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What the program says of -object options that are refused, beside what the real QEMU says of them.</summary>
/// <remarks>What the schema refuses is said of the option; what the object refuses itself is not.</remarks>
public sealed class ObjectOptionPeerTests
{
    [TestCase("-object memory-backend-ram,id=a,size=1M,foo=1")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,size=2M,foo=1")]
    [TestCase("-object memory-backend-ram,id=a")]
    [TestCase("-object memory-backend-ram,id=a,size=0")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,policy=foo")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,policy=bind")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=0")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=0-99999,policy=bind")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=7,policy=bind")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,prealloc-threads=0")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,prealloc-threads=x")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,mem-path=/tmp/x")]
    [TestCase("-object memory-backend-ram,id=,size=1M")]
    [TestCase("-object memory-backend-ram,size=1M")]
    [TestCase("-object memory-backend-ram,id=a,size=1M -object memory-backend-ram,id=a,size=1M")]
    [TestCase("-object memory-backend-file,id=a,size=1M")]
    [TestCase("-object memory-backend-file,id=a,size=1M,mem-path=")]
    [TestCase("-object memory-backend-file,id=a,size=1M,mem-path=/dev/shm,align=3")]
    [TestCase("-object memory-backend-file,id=a,size=1M,mem-path=/dev/shm,align=x")]
    [TestCase("-object memory-backend-file,id=a,size=1M,mem-path=/dev/shm,readonly=on")]
    [TestCase("-object memory-backend-memfd,id=a")]
    [TestCase("-object memory-backend-memfd,id=a,size=1M,hugetlb=on,hugetlbsize=3M")]
    [TestCase("-object memory-backend-memfd,id=a,size=1M,hugetlbsize=0")]
    [TestCase("-object memory-backend-memfd,id=a,size=1M,hugetlb=on,seal=on")]
    [TestCase("-object iothread,id=a,poll-max-ns=-1")]
    [TestCase("-object iothread,id=a,poll-shrink=x")]
    [TestCase("-object iothread,id=a,thread-pool-min=70")]
    [TestCase("-object iothread,id=a,thread-pool-max=0")]
    [TestCase("-object iothread,id=a,id=b,poll-max-ns=5,poll-max-ns=x")]
    [TestCase("-object iothread")]
    [TestCase("-object ,id=a")]
    [TestCase("-object id=a")]
    [TestCase("-object foo,id=a")]
    [TestCase("-object secret,id=a")]
    [TestCase("-object secret,id=a,data=x,format=foo")]
    [TestCase("-object secret,id=a,data=x,keyid=foo")]
    [TestCase("-object secret,id=a,data=x,qom-type=iothread")]
    [TestCase("-object secret,id=a,data=x,loaded=maybe")]
    [TestCase("-object secret,id=a,data=x,loaded=on")]
    [TestCase("-object secret_keyring,id=a")]
    [TestCase("-object secret_keyring,id=a,serial=0")]
    [TestCase("-object secret_keyring,id=a,serial=5")]
    [TestCase("-object secret_keyring,id=a,serial=5000000000")]
    [TestCase("-object secret_keyring,id=a,serial=5,file=x")]
    [TestCase("-object secret_keyring,id=a,serial=5,loaded=on")]
    [TestCase("-object thread-context,id=a,cpu-affinity=x")]
    [TestCase("-object thread-context,id=a,cpu-affinity=5000")]
    [TestCase("-object thread-context,id=a,cpu-affinity=70000")]
    [TestCase("-object thread-context,id=a,cpu-affinity=1-0")]
    [TestCase("-object thread-context,id=a,node-affinity=500")]
    [TestCase("-object thread-context,id=a,node-affinity=0,cpu-affinity=0")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,prealloc-context=nosuch")]
    [TestCase("-object iothread,id=t -object memory-backend-ram,id=a,size=1M,prealloc-context=t")]
    [TestCase("-object memory-backend-file,id=a,size=1M,mem-path=/dev/shm,pmem=x")]
    [TestCase("-object memory-backend-ram,id=a,size=0x1k -object foo,id=b")]
    [TestCase("-object memory-backend-ram,id=a,size=0 -object secret,id=b")]
    [TestCase("-object iothread,id=a,poll-max-ns=-1 -chardev socket,id=x,path=/nonexistent/x")]
    [TestCase("-object secret,id=a -blockdev file,node-name=a,filename=nosuch")]
    [TestCase("-object memory-backend-ram,id=a,size=0 -blockdev file,node-name=a,filename=nosuch")]
    [TestCase("-object memory-backend-ram,id=a,size=0 -mon nosuch")]
    [TestCase("-object secret,id=a -M nosuch")]
    [TestCase("-object throttle-group,id=a,x-iops-total=x")]
    [TestCase("-object throttle-group,id=a,x-iops-total=-1")]
    [TestCase("-object throttle-group,id=a,x-iops-total=1,x-iops-read=1")]
    [TestCase("-object throttle-group,id=a,limits.iops-total=x")]
    [TestCase("-object throttle-group,id=a,limits=3")]
    [TestCase("-object throttle-group,id=a,x-iops-total-max-length=0")]
    [TestCase("-object qom-type=iothread")]
    [TestCase("-object qom-type=iothread,id=a,qom-type=foo")]
    [TestCase("-object {\"qom-type\":\"iothread\"}")]
    [TestCase("-object {\"qom-type\":\"iothread\",\"id\":\"a\",\"foo\":1}")]
    [TestCase("-object {\"qom-type\":\"iothread\",\"id\":\"a\",\"poll-max-ns\":\"5\"}")]
    [TestCase("-object {\"id\":\"a\"}")]
    [TestCase("-object {\"qom-type\":\"nosuch\",\"id\":\"a\"}")]
    [TestCase("-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":\"1M\"}")]
    [TestCase("-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":1048576,\"host-nodes\":5}")]
    [TestCase("-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":1048576,\"policy\":\"x\"}")]
    [TestCase("-object {\"qom-type\":\"iothread\",\"id\":\"a\"")]
    [TestCase("-object container,id=a")]
    [TestCase("-object memory-backend,id=a")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=0-x")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes.0=x")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,reserve=off,prealloc=on")]
    [TestCase("-object memory-backend-ram,id=a,size=")]
    [TestCase("-object memory-backend-ram,id=a,size=1.5")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,prealloc-threads=5000000000")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,host-nodes=65530-65540,policy=bind")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,props=x")]
    [TestCase("-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":1048576,\"props\":{}}")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,props.x=x")]
    [TestCase("-object iothread,id=a,poll-max-ns=x -object foo,id=b")]
    [TestCase("-object iothread,id=a,poll-max-ns=-1 -object foo,id=b")]
    [TestCase("-object secret,id=a,data=1,data=2,format=x,format=y")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,size=x,size=")]
    [TestCase("-object memory-backend-ram,id=a,size")]
    [TestCase("-object memory-backend-ram,id=a,size=1M,merge,merge=x")]
    public void RefusedAlike(string line)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("qemu-system-x86_64 is not installed");
            return;
        }

        string[] arguments = ["-S", "-display", "none", "-nodefaults", "-M", "none", .. line.Split(' ')];
        (int expectedStatus, _, string expected) = Emulator.Run(qemu, arguments);
        (int status, _, string errors) = Emulator.Run(Emulator.OurBinary, arguments);
        Assert.That(errors.Replace("vmm-system-x86_64", "qemu-system-x86_64"), Is.EqualTo(expected));
        Assert.That(status, Is.EqualTo(expectedStatus).And.EqualTo(1));
    }
}
