//! System calls, by seccomp (seccomp(2)). The list is what the gateway was seen to call while its tests ran, on glibc and on
//! musl, and what both need to end a thread or the process. Files are Landlock's business, so opening one is allowed here.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Calls that may be made with any arguments.
const ANY: &[libc::c_long] = &[
    // Wait.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    // Sockets that are there.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Open files of any kind.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory; mmap and mprotect below.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Clocks, where the kernel does not answer without a call, and randomness.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // The thread itself, its beginning and its end. The log's thread may only be beginning when the filter comes.
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Older forms of the above, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] =
    &[libc::SYS_epoll_wait, libc::SYS_open, libc::SYS_poll, libc::SYS_stat, libc::SYS_lstat];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// The kind of socket without its flags (`SOCK_TYPE_MASK` in the kernel).
const SOCKET_KIND: u64 = 0xf;

/// The filter for this architecture.
pub(super) fn filter() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ANY.iter().chain(OLD).map(|call| (*call, Vec::new())).collect();
    let word = SeccompCmpArgLen::Dword;
    let is = |argument, value: libc::c_int| {
        SeccompCondition::new(argument, word.clone(), SeccompCmpOp::Eq, value as u64)
    };
    let bits = |argument, mask, value: libc::c_int| {
        SeccompCondition::new(argument, word.clone(), SeccompCmpOp::MaskedEq(mask), value as u64)
    };

    // Flows of users, pings, questions for resolvers; and the list of interfaces.
    let mut sockets = Vec::new();
    for domain in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(SeccompRule::new(vec![is(0, domain)?, bits(1, SOCKET_KIND, kind)?])?);
        }
    }
    sockets.push(SeccompRule::new(vec![is(0, libc::AF_NETLINK)?, is(2, libc::NETLINK_ROUTE)?])?);
    rules.insert(libc::SYS_socket, sockets);
    // Not to wait on a socket.
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![is(1, libc::FIONBIO as libc::c_int)?])?]);
    // Memory that code can run from is never made.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![bits(2, libc::PROT_EXEC as u64, 0)?])?]);
    }

    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?
        .try_into()
        .map_err(|error: BackendError| error.into())
}
