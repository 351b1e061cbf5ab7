using Vmm.Block.Drives;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Machines;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Logging;

namespace Vmm.System;

/// <summary>Nodes, drives and the devices that drives ask for.</summary>
internal sealed partial class VirtualMachine
{
    private void AddBlockdevs()
    {
        foreach (BlockdevOption option in _configuration.Blockdevs)
        {
            _location = option.Location;
            if (option.Options.NodeName is null)
            {
                throw new QapiException("'node-name' must be specified for the root node");
            }

            _blocks.AddMonitorOwned(_loop.RunUntil(_blocks.OpenAsync(option.Options)));
        }

        _location = null;
    }

    private void AddDrives(MachineType type)
    {
        _driveTable.DefaultInterface = DriveInterfaces.Parse(type.DriveInterface);
        _driveTable.UnitsPerDefaultBus = type.UnitsPerDefaultBus;
        foreach (DriveOption drive in _configuration.Drives)
        {
            _location = drive.Location;
            if (drive.Options.GetString("format") is "help" or "?")
            {
                string names = string.Join(' ', _blocks.DriverRegistry.Names);
                StdIo.Error.Write($"Supported formats: {names}\nSupported formats (read-only): {names}\n");
                throw new ProcessExitException(0);
            }

            _loop.RunUntil(_driveTable.AddAsync(drive.Options, drive.Location));
        }

        _location = null;
    }

    private void AddDevices(bool isJson)
    {
        foreach (DeviceOption device in _configuration.Devices)
        {
            if (device.IsJson == isJson)
            {
                _location = device.Location;
                _devices.Add(device.Properties, isKeyval: !isJson);
            }
        }

        _location = null;
    }

    /// <summary>if=virtio is short for a device beside the drive.</summary>
    private void AddVirtioDrives(MachineType type)
    {
        const string Driver = "virtio-blk-pci";
        foreach (Drive drive in _driveTable.All)
        {
            if (drive.Interface != DriveInterface.Virtio)
            {
                continue;
            }

            _location = drive.Location;
            if (!type.HasPci)
            {
                throw new QapiException($"No 'PCI' bus found for device '{Driver}'");
            }

            _devices.Add(new QDict { ["driver"] = Driver, ["drive"] = drive.Backend.Name }, isKeyval: true);
        }

        _location = null;
    }

    /// <summary>A drive that asks for a device which the machine does not have by itself is an error.</summary>
    private void CheckOrphanedDrives()
    {
        bool isOrphaned = false;
        foreach (Drive drive in _driveTable.All)
        {
            if (drive.Interface is not (DriveInterface.None or DriveInterface.Virtio) && drive.Backend.Device is null)
            {
                isOrphaned = true;
                Reporter.Report(
                    DiagnosticKind.Error,
                    drive.Location,
                    $"machine type does not support if={DriveInterfaces.Name(drive.Interface)},bus={drive.Bus},unit={drive.Unit}");
            }
        }

        if (isOrphaned)
        {
            throw new ProcessExitException(1);
        }
    }
}
