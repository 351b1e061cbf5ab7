using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>What a machine type says about processor topologies.</summary>
/// <param name="MachineName">Name in messages.</param>
/// <param name="MaxCpus">Most CPUs it can have.</param>
/// <param name="MinCpus">Fewest CPUs it can have.</param>
/// <param name="DefaultCpus">CPUs when none are asked for.</param>
/// <param name="HasDies">Whether sockets contain dies.</param>
/// <param name="HasClusters">Whether dies contain clusters.</param>
/// <param name="PreferSockets">Whether CPUs become sockets rather than cores where nothing else is said.</param>
public sealed record SmpRules(
    string MachineName,
    uint MaxCpus,
    uint MinCpus = 1,
    uint DefaultCpus = 1,
    bool HasDies = false,
    bool HasClusters = false,
    bool PreferSockets = false);

/// <summary>A complete processor topology.</summary>
/// <param name="Cpus">CPUs present at start.</param>
/// <param name="MaxCpus">CPUs present at start and pluggable; the product of the levels.</param>
/// <param name="Sockets">Sockets.</param>
/// <param name="Dies">Dies in a socket.</param>
/// <param name="Clusters">Clusters in a die.</param>
/// <param name="Cores">Cores in a cluster.</param>
/// <param name="Threads">Threads in a core.</param>
public sealed record SmpConfiguration(uint Cpus, uint MaxCpus, uint Sockets, uint Dies, uint Clusters, uint Cores, uint Threads)
{
    /// <summary>Completes a topology for a machine type.</summary>
    /// <param name="smp">Parameters of -smp as strings, or null.</param>
    /// <param name="rules">What the machine type allows.</param>
    /// <param name="diagnostics">Takes the warning about zeros.</param>
    /// <exception cref="QapiException">A parameter is not a number or the topology does not fit.</exception>
    public static SmpConfiguration Resolve(QDict? smp, SmpRules rules, IOptionDiagnostics diagnostics)
    {
        long? cpusGiven = null, socketsGiven = null, diesGiven = null, clustersGiven = null, coresGiven = null, threadsGiven = null, maxGiven = null;
        if (smp != null)
        {
            cpusGiven = Take(smp, "cpus");
            socketsGiven = Take(smp, "sockets");
            diesGiven = Take(smp, "dies");
            clustersGiven = Take(smp, "clusters");
            coresGiven = Take(smp, "cores");
            threadsGiven = Take(smp, "threads");
            maxGiven = Take(smp, "maxcpus");
            foreach (KeyValuePair<string, QValue> member in smp)
            {
                if (member.Key is not ("cpus" or "sockets" or "dies" or "clusters" or "cores" or "threads" or "maxcpus"))
                {
                    throw QapiException.UnexpectedParameter("smp." + member.Key);
                }
            }
        }

        if (cpusGiven == 0 || socketsGiven == 0 || diesGiven == 0 || clustersGiven == 0 || coresGiven == 0 || threadsGiven == 0 || maxGiven == 0)
        {
            diagnostics.Warning(
                "Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero");
        }

        uint cpus = (uint)(cpusGiven ?? 0);
        uint sockets = (uint)(socketsGiven ?? 0);
        uint dies = (uint)(diesGiven ?? 0);
        uint clusters = (uint)(clustersGiven ?? 0);
        uint cores = (uint)(coresGiven ?? 0);
        uint threads = (uint)(threadsGiven ?? 0);
        uint max = (uint)(maxGiven ?? 0);
        if (!rules.HasDies && dies > 1)
        {
            throw new QapiException("dies not supported by this machine's CPU topology");
        }

        if (!rules.HasClusters && clusters > 1)
        {
            throw new QapiException("clusters not supported by this machine's CPU topology");
        }

        dies = dies > 0 ? dies : 1;
        clusters = clusters > 0 ? clusters : 1;
        if (cpus == 0 && max == 0)
        {
            sockets = sockets > 0 ? sockets : 1;
            cores = cores > 0 ? cores : 1;
            threads = threads > 0 ? threads : 1;
            if (cpusGiven == null && maxGiven == null && socketsGiven == null && diesGiven == null && clustersGiven == null
                && coresGiven == null && threadsGiven == null)
            {
                cpus = rules.DefaultCpus;
                cores = rules.PreferSockets ? 1 : cpus;
                sockets = rules.PreferSockets ? cpus : 1;
            }
        }
        else
        {
            max = max > 0 ? max : cpus;
            if (rules.PreferSockets)
            {
                if (sockets == 0)
                {
                    cores = cores > 0 ? cores : 1;
                    threads = threads > 0 ? threads : 1;
                    sockets = Divide(max, dies * clusters * cores * threads);
                }
                else if (cores == 0)
                {
                    threads = threads > 0 ? threads : 1;
                    cores = Divide(max, sockets * dies * clusters * threads);
                }
            }
            else if (cores == 0)
            {
                sockets = sockets > 0 ? sockets : 1;
                threads = threads > 0 ? threads : 1;
                cores = Divide(max, sockets * dies * clusters * threads);
            }
            else if (sockets == 0)
            {
                threads = threads > 0 ? threads : 1;
                sockets = Divide(max, dies * clusters * cores * threads);
            }

            if (threads == 0)
            {
                threads = Divide(max, sockets * dies * clusters * cores);
            }
        }

        uint total = unchecked(sockets * dies * clusters * cores * threads);
        max = max > 0 ? max : total;
        cpus = cpus > 0 ? cpus : max;
        string hierarchy = $"sockets ({sockets})"
            + (rules.HasDies ? $" * dies ({dies})" : "")
            + (rules.HasClusters ? $" * clusters ({clusters})" : "")
            + $" * cores ({cores}) * threads ({threads})";
        if (total != max)
        {
            throw new QapiException(
                $"Invalid CPU topology: product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({max})");
        }

        if (max < cpus)
        {
            throw new QapiException(
                $"Invalid CPU topology: maxcpus must be equal to or greater than smp: {hierarchy} == maxcpus ({max}) < smp_cpus ({cpus})");
        }

        if (cpus < rules.MinCpus)
        {
            throw new QapiException(
                $"Invalid SMP CPUs {(int)cpus}. The min CPUs supported by machine '{rules.MachineName}' is {rules.MinCpus}");
        }

        if (max > rules.MaxCpus)
        {
            throw new QapiException(
                $"Invalid SMP CPUs {(int)max}. The max CPUs supported by machine '{rules.MachineName}' is {rules.MaxCpus}");
        }

        return new SmpConfiguration(cpus, max, sockets, dies, clusters, cores, threads);
    }

    private static uint Divide(uint total, uint divisor) => divisor == 0 ? 0 : total / divisor;

    private static long? Take(QDict smp, string name)
    {
        if (!smp.TryGetValue(name, out QValue? value))
        {
            return null;
        }

        if (value is not QString text)
        {
            throw QapiException.InvalidParameterType("smp." + name, "integer");
        }

        return OptionScalars.TryParseInt64(text.Value, out long number) == ScalarStatus.Ok
            ? number
            : throw QapiException.InvalidParameterValue("smp." + name, "integer");
    }
}
