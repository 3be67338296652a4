//! Whether ports are free, and who has those that are not.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::engine::Engine;
use super::managed::Stream;
use super::plan::{Plan, Planned};
use super::profile::Network;
use crate::error::{Error, Kind, Result};
use crate::proc;

/// That nothing listens where the plan's ports are to be, but for those that the container has which this one replaces.
pub(super) async fn check(engine: &Engine, plan: &Plan, held: &[Planned]) -> Result<()> {
    if !engine.local() {
        return Ok(());
    }
    let address = if plan.profile.network == Network::Host { Ipv4Addr::UNSPECIFIED.into() } else { plan.bind };
    let same = |one: &Planned, other: &Planned| (one.number, &one.protocol) == (other.number, &other.protocol);
    for port in plan.own_ports()?.into_iter().filter(|port| !held.iter().any(|other| same(other, port))) {
        match try_port(address, &port) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(taken(engine, plan, &port).await),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                return Err(Error::usage(format!("{address} is no address of this machine")).hint("see: ip address"));
            }
            // Whatever else it is, the engine may do more than we may: it has the last word.
            _ => {}
        }
    }
    Ok(())
}

fn try_port(address: IpAddr, port: &Planned) -> std::io::Result<()> {
    let at = SocketAddr::new(address, port.number);
    match port.protocol.as_str() {
        "udp" => UdpSocket::bind(at).map(drop),
        _ => TcpListener::bind(at).map(drop),
    }
}

async fn taken(engine: &Engine, plan: &Plan, port: &Planned) -> Error {
    let Planned { name, number, protocol, .. } = port;
    let holder = match container_with(engine, *number).await {
        Some(container) => format!("the container {container} has it"),
        None => match process_with(*number, protocol) {
            Some(pid) => format!("process {pid} ({}) has it", proc::name(pid).unwrap_or_default()),
            None => "a process has it that this user may not see".into(),
        },
    };
    let flag = match (plan.stream, name.as_str()) {
        (Stream::Nsight, "turn") => "choose another: --turn-port PORT",
        (Stream::Nsight, _) => "choose another: --port PORT",
        (Stream::Isaac, _) => "end that first: the instance's number decides its ports",
    };
    Error::new(Kind::Capacity, format!("port {number}/{protocol} ({name}) is taken"))
        .cause(holder)
        .hint(format!("{flag}\nsee who it is: sudo ss -lntup 'sport = :{number}'"))
}

async fn container_with(engine: &Engine, port: u16) -> Option<String> {
    let all = engine.docker.list_containers(None).await.ok()?;
    let has =
        |one: &&bollard::models::ContainerSummary| one.ports.iter().flatten().any(|p| p.public_port == Some(port));
    let names = all.iter().find(has)?.names.clone()?;
    Some(names.first()?.trim_start_matches('/').to_string())
}

/// The process that listens on a port, as far as we may see.
fn process_with(port: u16, protocol: &str) -> Option<u32> {
    let tables = [format!("/proc/net/{protocol}"), format!("/proc/net/{protocol}6")];
    let sockets: Vec<String> =
        tables.iter().filter_map(|path| fs::read_to_string(path).ok()).flat_map(|text| inodes(&text, port)).collect();
    let links = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect::<Vec<_>>();
    let holds = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    };
    proc::pids().into_iter().find(holds)
}

/// proc_pid_net(5), `tcp` and `udp`: `SL LOCAL:PORT REMOTE:PORT STATE … INODE`, numbers in hex. A TCP socket listens in state
/// 0A, a UDP one that is bound is in 07.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let listens = rows.filter(|row| {
        row.get(1).is_some_and(|local| local.ends_with(&suffix)) && matches!(row.get(3), Some(&"0A" | &"07"))
    });
    listens.filter_map(|row| row.get(9).map(|inode| inode.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let port = Planned { name: "http".into(), number, inside: number, protocol: "tcp".into() };
        let refused = try_port(Ipv4Addr::LOCALHOST.into(), &port).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        assert_eq!(process_with(number, "tcp"), Some(std::process::id()));
        drop(listener);
        assert!(try_port(Ipv4Addr::LOCALHOST.into(), &port).is_ok());
        assert_eq!(process_with(number, "tcp"), None);
    }
}
