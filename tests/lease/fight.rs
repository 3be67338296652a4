//! 64 processes of two users fight over two slots, and die in every way.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use gsk::clock::now_us;
use gsk::lease::{Limit, Pool, Slot, run};
use rustix::fs::FlockOperation;
use rustix::process::{Signal, kill_process};

const PROCESSES: u32 = 64;
const CYCLES: u32 = 10_000;
const SLOTS: u32 = 2;
/// Who the second half runs as: Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// The test's processes are this test binary again, told so by this variable.
const FIGHTER: &str = "GSK_TEST_FIGHTER";

/// One byte of a file for each slot, locked by POSIX record locks, which know nothing of the slots' own: a holder that
/// finds no byte free is one too many. The kernel lets them go before those of the slots, as the file is opened first.
struct Witness(File);

impl Witness {
    fn enter(&self) -> bool {
        (0..SLOTS).any(|byte| self.lock(byte, libc::F_WRLCK))
    }

    fn leave(&self) {
        (0..SLOTS).for_each(|byte| assert!(self.lock(byte, libc::F_UNLCK)));
    }

    fn lock(&self, byte: u32, kind: libc::c_int) -> bool {
        use std::os::fd::AsRawFd;
        // SAFETY: the lock is plain data that lives through the call.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            (lock.l_type, lock.l_whence) = (kind as i16, libc::SEEK_SET as i16);
            (lock.l_start, lock.l_len) = (byte.into(), 1);
            libc::fcntl(self.0.as_raw_fd(), libc::F_SETLK, &lock) == 0
        }
    }
}

/// A line of the diary: what happened to which slot, and when (µs, one clock for all).
fn note(diary: &mut File, what: char, slot: &str) {
    let line = format!("{what} {slot} {}\n", now_us());
    assert_eq!(diary.write(line.as_bytes()).unwrap(), line.len());
}

/// One of the processes: takes slots and lets them go, or dies with one.
#[test]
fn fighter() {
    let Ok(place) = std::env::var(FIGHTER) else { return };
    let place = Path::new(&place);
    let open = |name| File::options().read(true).append(true).open(place.join(name)).unwrap();
    let witness = Witness(File::options().read(true).write(true).open(place.join("witness")).unwrap());
    let mut diary = open("diary");
    let pool = Pool::at(&place.join("leases")).unwrap();
    let mut chance = u64::from(std::process::id());
    loop {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = (chance >> 33) as u32;
        let wait = Duration::from_secs(120);
        let slot = run::take(&pool, Limit::Sessions(SLOTS), || None, &Default::default(), wait, |_| {}).unwrap();
        note(&mut diary, 'G', &slot.name());
        if !witness.enter() {
            note(&mut diary, 'X', &slot.name());
        }
        std::thread::sleep(Duration::from_micros(u64::from(dice % 500)));
        match dice / 500 % 8 {
            0 => die(&mut diary, &slot, || kill_process(rustix::process::getpid(), Signal::KILL).unwrap()),
            1 => die(&mut diary, &slot, || std::process::exit(0)),
            _ => {
                witness.leave();
                drop(slot);
            }
        }
    }
}

fn die(diary: &mut File, slot: &Slot, end: impl FnOnce()) {
    note(diary, 'D', &slot.name());
    end();
    unreachable!("it has ended");
}

fn fighter_of(place: &Path, number: u32) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fight::fighter", "--nocapture"]).env(FIGHTER, place);
    let faults = File::options().append(true).open(place.join("faults")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(faults);
    if number % 2 == 1 && root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.spawn().unwrap()
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn never_more_than_two_hold_and_no_slot_is_lost() {
    if !root() {
        println!("not root: all {PROCESSES} run as one user");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "on CI two users are to fight");
    }
    let home = tempfile::tempdir().unwrap();
    let place = home.path();
    fs::set_permissions(place, PermissionsExt::from_mode(0o777)).unwrap();
    for name in ["witness", "diary", "faults"] {
        fs::write(place.join(name), "").unwrap();
        fs::set_permissions(place.join(name), PermissionsExt::from_mode(0o666)).unwrap();
    }
    // The second user runs the test binary too, wherever it lies.
    let pool = Pool::at(&place.join("leases")).unwrap();
    let over = AtomicBool::new(false);
    let cleaned = std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Relaxed) {
                let mut command = Command::new(env!("CARGO_BIN_EXE_gsk"));
                command.args(["cleanup", "--leases", "--json"]).env("GSK_LEASE_DIR", place.join("leases"));
                let done = command.current_dir(place).stdin(Stdio::null()).output().unwrap();
                assert!(matches!(done.status.code(), Some(0 | 1 | 3)), "{}", String::from_utf8_lossy(&done.stderr));
                rounds += 1;
            }
            rounds
        });
        let mut fighters: Vec<Child> = (0..PROCESSES).map(|number| fighter_of(place, number)).collect();
        let (mut read, mut granted) = (File::open(place.join("diary")).unwrap(), 0);
        while granted < CYCLES as usize {
            for (number, fighter) in (0..).zip(&mut fighters) {
                if let Some(status) = fighter.try_wait().unwrap() {
                    assert!(status.success() || status.signal() == Some(9), "{status}: {}", words(place));
                    *fighter = fighter_of(place, number);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
            let mut news = String::new();
            read.read_to_string(&mut news).unwrap();
            granted += news.matches('G').count();
        }
        for fighter in &mut fighters {
            fighter.kill().unwrap();
            fighter.wait().unwrap();
        }
        over.store(true, Relaxed);
        cleaner.join().unwrap()
    });
    let diary = fs::read_to_string(place.join("diary")).unwrap();
    assert_eq!(diary.lines().filter(|line| line.starts_with('X')).count(), 0, "more than {SLOTS} held at once");
    assert!(cleaned > 0);
    tell(&diary, cleaned);
    // All are dead: both slots are to be had, and no third.
    let take = || pool.take(Limit::Sessions(SLOTS), || None, Default::default());
    let (first, second) = (take().unwrap(), take().unwrap());
    assert!(take().is_err());
    assert_eq!([first.name(), second.name()], ["slot-0", "slot-1"]);
}

/// What fighters said that failed.
fn words(place: &Path) -> String {
    fs::read_to_string(place.join("faults")).unwrap()
}

/// Prints how long after a holder's death its slot was granted again.
fn tell(diary: &str, cleaned: u32) {
    let mut died = std::collections::BTreeMap::new();
    let mut waits = Vec::new();
    let mut events: Vec<(u64, &str, &str)> = diary
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (what, slot, at) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            (at.parse().unwrap(), what, slot)
        })
        .collect();
    events.sort_unstable();
    let grants = events.iter().filter(|event| event.1 == "G").count();
    for (at, what, slot) in events {
        match what {
            "D" => drop(died.insert(slot, at)),
            _ => waits.extend(died.remove(slot).map(|death| at - death)),
        }
    }
    waits.sort_unstable();
    let pick = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize] as f64 / 1e3;
    println!(
        "{grants} grants, {} deaths with a slot, cleanup --leases ran {cleaned} times; from death to the next grant: \
         p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        waits.len(),
        pick(0.5),
        pick(0.99),
        pick(1.0)
    );
}

#[test]
fn the_witness_sees_a_third() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("witness");
    fs::write(&path, "").unwrap();
    let script = format!(
        "import fcntl,sys\nf=open({path:?},'r+')\nfcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,1,int(sys.argv[1]))\n\
         print('in',flush=True)\nsys.stdin.read()"
    );
    let holders: Vec<Child> = ["0", "1"]
        .into_iter()
        .map(|byte| {
            let mut python = Command::new("python3");
            let mut child =
                python.args(["-c", &script, byte]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut said = [0; 3];
            child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
            child
        })
        .collect();
    let witness = Witness(File::options().read(true).write(true).open(&path).unwrap());
    assert!(!witness.enter());
    for mut holder in holders {
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }
    assert!(witness.enter());
    // And the two kinds of lock are strangers to each other.
    rustix::fs::flock(&witness.0, FlockOperation::NonBlockingLockExclusive).unwrap();
}
