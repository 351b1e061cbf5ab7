namespace Vmm.System.CommandLine;

/// <summary>What -help and -version print.</summary>
internal static class UsageText
{
    /// <summary>The version lines. Clients look for the words "QEMU emulator version" and the number.</summary>
    public const string Version = """
        QEMU emulator version 7.2.22 (Vmm)
        Vmm, a virtual machine monitor with the interface of QEMU

        """;

    /// <summary>The whole help text.</summary>
    public static string Usage(string programName) => $"{Version}usage: {programName} [options]\n\n{Options}";

    /// <summary>One paragraph for each option that is served.</summary>
    public const string Options = """
        Standard options:
        -h or -help     display this help and exit
        -version        display version information and exit
        -machine [type=]name[,prop[=value][,...]]
                        select the machine type ('-machine help' for a list, '-machine name,help' for its properties)
                        accel=accel1[:accel2[:...]] select an accelerator (kvm or qtest; default: kvm)
                        kernel-irqchip=on|off|split where the interrupt controllers live (default=on)
                        memory-backend='backend-id' take main memory from this -object
        -M ...          same as -machine
        -cpu cpu        select the CPU model and its features ('-cpu help' for a list)
        -accel [accel=]accelerator[,prop[=value][,...]]
                        select an accelerator (kvm or qtest; '-accel help' for a list)
        -enable-kvm     same as -machine accel=kvm
        -smp [[cpus=]n][,maxcpus=maxcpus][,sockets=sockets][,dies=dies][,clusters=clusters][,cores=cores][,threads=threads]
                        number of CPUs at start [default=1], their maximum with hot-plug, and how they are arranged
        -add-fd fd=fd,set=set[,opaque=opaque]
                        add a duplicate of inherited descriptor 'fd' to fd set 'set'
        -set group.id.arg=value
                        set one parameter of the option of that group and id
        -global driver.property=value
        -global driver=driver,property=property,value=value
                        set a default for a property of all devices of a type
        -boot [order=drives][,once=drives][,menu=on|off]
              [,splash=sp_name][,splash-time=sp_time][,reboot-timeout=rb_time][,strict=on|off]
                        'drives': floppy (a), hard disk (c), CD-ROM (d), network (n)
                        'sp_time', 'rb_time': milliseconds
        -m [size=]megs[,slots=n,maxmem=size]
                        guest memory: size at start (mebibytes unless a suffix is given), slots and limit for hot-plug
        -device driver[,prop[=value][,...]]
        -device {JSON}  add a device ('-device help' for a list, '-device driver,help' for its properties)
        -fda/-fdb file  -drive if=floppy,index=0|1
        -hda/-hdb file  -drive index=0|1,media=disk
        -hdc/-hdd file  -drive index=2|3,media=disk
        -cdrom file     -drive index=2,media=cdrom
        -mtdblock file  -drive if=mtd
        -pflash file    -drive if=pflash
        -sd file        -drive if=sd
        -snapshot       keep writes to drives in temporary files
        -blockdev [driver=]driver,node-name=N[,option=value][,...]
        -blockdev {JSON}
                        add a block node
        -drive [file=file][,if=type][,bus=n][,unit=m][,index=i][,media=d][,id=name][,format=f][,snapshot=on|off]
               [,cache=writethrough|writeback|none|directsync|unsafe][,aio=threads][,discard=ignore|unmap]
               [,detect-zeroes=on|off|unmap][,copy-on-read=on|off][,read-only=on|off]
               [,rerror=ignore|stop|report][,werror=ignore|stop|report|enospc]
               [,bps=b|,bps_rd=r,bps_wr=w][,iops=i|,iops_rd=r,iops_wr=w][,..._max=m][,iops_size=s][,group=g]
               [,option of the driver=value][,...]
                        add a disk
        -name string1[,process=string2][,debug-threads=on|off]
                        names of the guest and of the process; whether threads are named
        -uuid %08x-%04x-%04x-%04x-%012x
                        UUID of the machine

        Display and network options:
        -display none   no display
        -nographic      no display; serial port and monitor share the terminal
        -vga none       no graphics card
        -net none       no network card
        -nic none       no network card

        x86 options:
        -no-acpi        no ACPI tables
        -no-hpet        no HPET

        Character device options:
        -chardev help   list the back ends
        -chardev null,id=id[,mux=on|off][,logfile=PATH][,logappend=on|off]
        -chardev socket,id=id[,host=host],port=port[,to=to][,ipv4=on|off][,ipv6=on|off][,nodelay=on|off]
                 [,server=on|off][,wait=on|off][,telnet=on|off][,websocket=on|off][,reconnect=seconds][,mux=on|off]
                 [,logfile=PATH][,logappend=on|off] (tcp)
        -chardev socket,id=id,path=path[,server=on|off][,wait=on|off][,telnet=on|off][,websocket=on|off][,reconnect=seconds]
                 [,mux=on|off][,logfile=PATH][,logappend=on|off][,abstract=on|off][,tight=on|off] (unix)
        -chardev socket,id=id,fd=fd[,server=on|off][,wait=on|off][,...] (inherited)
        -chardev udp,id=id[,host=host],port=port[,localaddr=localaddr][,localport=localport][,...]
        -chardev ringbuf,id=id[,size=size][,logfile=PATH][,logappend=on|off]
        -chardev file,id=id,path=path[,append=on|off][,mux=on|off][,logfile=PATH][,logappend=on|off]
        -chardev pipe,id=id,path=path[,mux=on|off][,logfile=PATH][,logappend=on|off]
        -chardev pty,id=id[,mux=on|off][,logfile=PATH][,logappend=on|off]
        -chardev stdio,id=id[,mux=on|off][,signal=on|off][,logfile=PATH][,logappend=on|off]

        Kernel and firmware:
        -bios file      firmware file
        -kernel file    boot this kernel (Linux bzImage, PVH ELF or multiboot)
        -append cmdline command line for the kernel
        -initrd file    initial RAM disk for the kernel
        -L path         add a directory for firmware files ('-L help' lists them)

        Debug/Expert options:
        -object TYPENAME,id=id[,PROP1=VALUE1,...]
        -object {JSON}  create an object ('-object help' for a list, '-object TYPENAME,help' for its properties)
        -serial dev     connect the next serial port to character device 'dev'
        -parallel none  no parallel port
        -monitor dev    run the human monitor on character device 'dev'
        -qmp dev        run a QMP monitor on character device 'dev'
        -qmp-pretty dev same as -qmp with indented output
        -mon [chardev=]name[,mode=readline|control][,pretty[=on|off]]
                        run a monitor on the -chardev of that id
        -debugcon dev   connect the debug console at port 0xe9 to character device 'dev'
        -pidfile file   write the process id to 'file'
        -preconfig      wait for QMP commands before the machine is initialised
        -S              do not start the CPUs (QMP: cont)
        -overcommit [mem-lock=on|off][cpu-pm=on|off]
                        lock memory in RAM; let the guest manage the power states of host CPUs
        -d item1,...    log these items ('-d help' for a list)
        -D logfile      write the log to a file instead of standard error
        -trace [[enable=]pattern][,events=file]
                        enable trace events ('-trace help' for a list)
        -no-reboot      exit instead of rebooting
        -no-shutdown    stop instead of exiting when the guest shuts down
        -action reboot=reset|shutdown
        -action shutdown=poweroff|pause
        -action panic=pause|shutdown|exit-failure|none
        -action watchdog=reset|shutdown|poweroff|inject-nmi|pause|debug|none
                        what to do when the guest reboots, shuts down, panics or its watchdog fires
        -watchdog-action action
                        same as -action watchdog=action
        -daemonize      run in the background once the machine is set up
        -rtc [base=utc|localtime|<datetime>][,clock=host|rt|vm][,driftfix=none|slew]
                        what the real-time clock shows and what drives it
        -nodefaults     create no default devices
        -no-user-config read no configuration file that was not asked for
        -readconfig <file>
                        read options from a file
        -msg [timestamp[=on|off]][,guest-name=[on|off]]
                        what messages on standard error start with
        -qtest dev      serve the qtest protocol on character device 'dev' (with -accel qtest)
        -qtest-log file log the qtest protocol

        """;
}
