//! How much memory a process can still have. Only Linux says; elsewhere nothing is known.

use std::fmt;
use std::path::Path;

/// What sets the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Memory and swap that nobody uses, or that is given back when asked for.
    Machine,
    /// A control group, as containers have.
    Group,
    /// `ulimit -v`
    AddressSpace,
    /// `ulimit -d`
    Data,
    /// What the command line says.
    Asked,
}

/// Memory that the process can still have, and why it is not more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub bytes: u64,
    pub limit: Limit,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = super::shown(self.bytes);
        match self.limit {
            Limit::Machine => write!(f, "this machine has {bytes} available"),
            Limit::Group => write!(f, "the limit of the control group leaves {bytes}"),
            Limit::AddressSpace => write!(f, "the limit on the address space (`ulimit -v`) leaves {bytes}"),
            Limit::Asked => write!(f, "--memory allows {bytes}"),
            Limit::Data => write!(f, "the limit on data (`ulimit -d`) leaves {bytes}"),
        }
    }
}

impl Offer {
    /// What there is at this moment; `None` where nobody knows.
    pub fn now() -> Option<Offer> {
        Self::read(&|path| std::fs::read_to_string(path).ok())
    }

    /// The least of all bounds, from the texts of the system's files.
    fn read(file: &dyn Fn(&Path) -> Option<String>) -> Option<Offer> {
        let meminfo = file(Path::new("/proc/meminfo")).unwrap_or_default();
        let swap = field(&meminfo, "SwapFree:").map_or(0, kib);
        let machine = field(&meminfo, "MemAvailable:").map(|n| kib(n).saturating_add(swap));
        let groups = file(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let group = groups.lines().filter_map(|line| group(line, swap, file)).min();
        let status = file(Path::new("/proc/self/status")).unwrap_or_default();
        let limits = file(Path::new("/proc/self/limits")).unwrap_or_default();
        let left = |limit: &str, used: &str| {
            let limit = field(&limits, limit)?;
            Some(limit.saturating_sub(field(&status, used).map_or(0, kib)))
        };
        let bounds = [
            (machine, Limit::Machine),
            (group, Limit::Group),
            (left("Max address space", "VmSize:"), Limit::AddressSpace),
            (left("Max data size", "VmData:"), Limit::Data),
        ];
        let known = bounds.into_iter().filter_map(|(bytes, limit)| Some(Offer { bytes: bytes?, limit }));
        known.min_by_key(|o| o.bytes)
    }
}

fn kib(n: u64) -> u64 {
    n.saturating_mul(1024)
}

/// The number behind a name at the beginning of a line; `None` for a word, such as `unlimited`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What a control group leaves, by a line of `/proc/self/cgroup`, with all the groups that it lies in.
fn group(line: &str, swap: u64, file: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, files) = match controllers {
        "" => ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file", "active_file"]),
        c if c.split(',').any(|c| c == "memory") => (
            "/sys/fs/cgroup/memory",
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"],
        ),
        _ => return None,
    };
    let [max, current, inactive, active] = files;
    let own = Path::new(path.trim_start_matches('/'));
    let left = |folder: &Path| {
        let number = |name: &str| file(&folder.join(name))?.trim().parse::<u64>().ok();
        // Version 1 writes a number beyond all memory where there is no limit.
        let max = number(max).filter(|n| *n < 1 << 60)?;
        let stat = file(&folder.join("memory.stat")).unwrap_or_default();
        // Pages of files are given back when memory is asked for.
        let files = [inactive, active].iter().filter_map(|name| field(&stat, &format!("{name} "))).sum();
        let used = number(current)?.saturating_sub(files);
        let swap = match number("memory.swap.max") {
            Some(n) => n.saturating_sub(number("memory.swap.current").unwrap_or(0)).min(swap),
            None => swap,
        };
        Some(max.saturating_sub(used).saturating_add(swap))
    };
    // In a container the path may be that of the world outside, which is not there.
    own.ancestors().filter_map(|folder| left(&Path::new(root).join(folder))).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn offer(files: &[(&str, &str)]) -> Option<Offer> {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        Offer::read(&|path| files.get(path.to_str()?).map(|t| t.to_string()))
    }

    const MEMINFO: (&str, &str) =
        ("/proc/meminfo", "MemTotal: 24000000 kB\nMemAvailable:   1000000 kB\nSwapFree:          5000 kB\n");

    #[test]
    fn without_limits_the_machine_decides() {
        assert_eq!(offer(&[]), None);
        let free = Some(Offer { bytes: 1_005_000 * 1024, limit: Limit::Machine });
        assert_eq!(offer(&[MEMINFO]), free);
        let none = "Limit  Soft Limit  Hard Limit  Units\nMax address space  unlimited  unlimited  bytes\n";
        let v1 = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let cgroup = ("/proc/self/cgroup", "4:memory:/\n1:name=systemd:/x\n0::/\n");
        assert_eq!(offer(&[MEMINFO, ("/proc/self/limits", none), v1, cgroup]), free);
    }

    #[test]
    fn the_narrowest_group_counts_without_its_pages_of_files() {
        let at = |bytes| Some(Offer { bytes, limit: Limit::Group });
        let two = [
            MEMINFO,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/memory.max", "500000000\n"),
            ("/sys/fs/cgroup/a/memory.current", "450000000\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000000\nactive_file 50000000\n"),
            ("/sys/fs/cgroup/a/memory.swap.max", "0\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        assert_eq!(offer(&two), at(200_000_000));
        let one = [
            MEMINFO,
            ("/proc/self/cgroup", "9:cpu,memory:/docker/0123\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "300000000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "250000000\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 9\ntotal_inactive_file 10000000\n"),
        ];
        assert_eq!(offer(&one), at(60_000_000 + 5000 * 1024));
    }

    #[test]
    fn limits_of_the_process_leave_what_it_does_not_use() {
        let limits = "Max data size             unlimited            unlimited            bytes\n\
                      Max address space         400000000            unlimited            bytes\n";
        let files = [MEMINFO, ("/proc/self/limits", limits), ("/proc/self/status", "Name: x\nVmSize:\t  100000 kB\n")];
        let left = Offer { bytes: 400_000_000 - 102_400_000, limit: Limit::AddressSpace };
        assert_eq!(offer(&files), Some(left));
        assert_eq!(left.to_string(), "the limit on the address space (`ulimit -v`) leaves 298 MB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_what_it_has() {
        assert!(Offer::now().is_some_and(|o| o.bytes > 0));
    }
}
