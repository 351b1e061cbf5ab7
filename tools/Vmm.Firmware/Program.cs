using Vmm.Firmware;

if (args.Length != 1)
{
    Console.Error.WriteLine("usage: dotnet run --project tools/Vmm.Firmware firmware/vmm-bootrom.bin");
    return 1;
}

File.WriteAllBytes(args[0], BootRomBuilder.Build());
return 0;
