using Vmm.Block.Drivers;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.System.CommandLine;

namespace Vmm.System;

/// <summary>The objects of -object, and who may look for them.</summary>
internal sealed partial class VirtualMachine
{
    private enum ObjectStage
    {
        /// <summary>Before the character devices, which may need them: secrets, TLS credentials and their kin.</summary>
        Early,

        /// <summary>Memory, about which the machine has its say.</summary>
        Machine,

        /// <summary>Those that work on the machine; what they refuse then belongs to no option.</summary>
        Late,
    }

    private void AddObjects(ObjectStage stage)
    {
        foreach (ObjectOption option in _configuration.Objects)
        {
            if (StageOf(option) == stage)
            {
                _objects.Add(option.Properties);
            }
        }
    }

    private static ObjectStage StageOf(ObjectOption option)
    {
        string? type = option.Properties.TryGetValue("qom-type", out QValue? value) && value is QString text ? text.Value : null;
        return type switch
        {
            "qtest" => ObjectStage.Late,
            not null when type.StartsWith("memory-backend-", StringComparison.Ordinal) => ObjectStage.Machine,
            _ => ObjectStage.Early,
        };
    }

    private void LendObjects(BlockDriverRegistry drivers)
    {
        drivers.FindSecret = id => Secret.FindText(_tree, id);
        drivers.FindObject = FindObject;
    }

    private QomObject? FindObject(string id) => _tree.Objects.FindChild(id);
}
