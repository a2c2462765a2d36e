//! The log under every crash and every failing call: what was acknowledged is there, and nothing that was not written.

use std::io::ErrorKind;

use super::super::{FaultyDisk, Loss, ManifestStore, RealDisk, Repeat};
use super::*;

const SEGMENT: u64 = 2_000;

fn payload(number: usize) -> Vec<u8> {
    let length = [1, 30, 700, 0, 90, 1_500][number % 6];
    format!("{number} ").into_bytes().into_iter().chain(std::iter::repeat_n(number as u8, length)).collect()
}

/// What one life of a process was told: how many records it appended, how many of them it may count on.
#[derive(Default, Debug)]
struct Told {
    appended: usize,
    acknowledged: usize,
}

/// Opens the log from the newest manifest, as the engine does: (log, manifests, number of records before, records).
fn open(disk: &FaultyDisk) -> Result<(Log, ManifestStore, usize, Vec<LogRecord>), StorageError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let manifests = ManifestStore::open(disk.clone(), "")?;
    let (before, from) = match manifests.newest()? {
        None => (0, 0),
        Some((number, bytes)) => (number as usize, u64_at(&bytes, 0).expect("a position")),
    };
    let (log, records) = Log::open_with_segments(disk, "log", LogPosition(from), SEGMENT)?;
    Ok((log, manifests, before, records))
}

/// Appends 40 records after those that are there, syncs after every third, checkpoints and cuts twice.
fn live(disk: &FaultyDisk, told: &mut Told) -> Result<(), StorageError> {
    let (mut log, manifests, before, records) = open(disk)?;
    let first = before + records.len();
    (told.appended, told.acknowledged) = (first, first);
    for number in first..first + 40 {
        told.appended += 1;
        log.append(&payload(number))?;
        if number % 3 == 2 {
            log.sync()?;
            told.acknowledged = number + 1;
        }
        if number % 20 == 14 {
            log.sync()?;
            manifests.write(number as u64 + 1, &log.position().0.to_le_bytes())?;
            log.cut(log.position())?;
        }
    }
    log.close()?;
    told.acknowledged = told.appended;
    Ok(())
}

/// The records of `disk` are those that were appended, in order, and at least those that were acknowledged.
fn check(disk: &FaultyDisk, told: &Told, case: &str) -> usize {
    let (_, _, before, records) = open(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.bytes, payload(before + index), "{case}: record {}", before + index);
    }
    let found = before + records.len();
    assert!(told.acknowledged <= found && found <= told.appended, "{case}: found {found}, {told:?}");
    found
}

/// A second life on the same disk goes on, and what it acknowledges survives the loss of everything unsynced.
fn live_again(disk: &FaultyDisk, case: &str) {
    let mut told = Told::default();
    live(disk, &mut told).unwrap_or_else(|error| panic!("{case}, second life: {error}"));
    assert_eq!(check(&disk.after_crash(Loss::Everything), &told, case), told.appended, "{case}, second life");
}

#[test]
fn a_crash_at_any_sync_loses_no_acknowledged_record() {
    crash_everywhere(FaultyDisk::crash_at_sync);
}

#[test]
fn a_crash_at_any_call_loses_no_acknowledged_record() {
    crash_everywhere(FaultyDisk::crash_at_call);
}

fn crash_everywhere(arm: impl Fn(&FaultyDisk, u64)) {
    for n in 1.. {
        for loss in Loss::ALL {
            let disk = FaultyDisk::new(n);
            arm(&disk, n);
            let mut told = Told::default();
            let end = live(&disk, &mut told);
            let found = disk.after_crash(loss);
            let case = format!("crash {n}, {loss:?}");
            check(&found, &told, &case);
            live_again(&found, &case);
            if end.is_ok() {
                assert!(n > 20, "the workload makes many calls, not {n}");
                return;
            }
        }
    }
}

#[test]
fn a_second_crash_while_recovering_loses_nothing_either() {
    for first in (1..40).step_by(3) {
        let disk = FaultyDisk::new(first);
        disk.crash_at_sync(first);
        let mut told = Told::default();
        if live(&disk, &mut told).is_ok() {
            return;
        }
        for second in 1..14 {
            for loss in Loss::ALL {
                let found = disk.after_crash(loss);
                found.crash_at_call(second);
                // Recovery may or may not get through; it must not make things worse.
                let _ = open(&found);
                let after = found.after_crash(Loss::ALL[(second as usize) % 4]);
                check(&after, &told, &format!("crash {first}, {loss:?}, then {second}"));
            }
        }
    }
}

#[test]
fn any_failing_call_ends_in_an_error_and_loses_no_acknowledged_record() {
    for n in 1.. {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            for repeat in [Repeat::Once, Repeat::Forever] {
                let disk = FaultyDisk::new(n);
                disk.fail_at_call(n, kind, repeat);
                let mut told = Told::default();
                let end = live(&disk, &mut told);
                disk.heal();
                let case = format!("call {n} fails, {kind:?}, {repeat:?}");
                for loss in Loss::ALL {
                    check(&disk.after_crash(loss), &told, &format!("{case}, then {loss:?}"));
                }
                // The process starts again on the same machine, whose memory still shows what a failed sync lost.
                check(&disk, &told, &case);
                live_again(&disk, &case);
                if end.is_ok() {
                    return;
                }
            }
        }
    }
}

#[test]
fn after_the_first_failure_every_call_fails_with_it() {
    let disk = FaultyDisk::new(1);
    let (mut log, ..) = open(&disk).expect("opens");
    log.append(b"a").expect("appends");
    disk.fail_at_call(2, ErrorKind::Other, Repeat::Once);
    let first = log.sync().expect_err("the sync fails");
    assert_eq!(log.sync(), Err(first.clone()), "although the disk works again");
    assert_eq!(log.append(b"b"), Err(first.clone()));
    assert_eq!(log.flush(), Err(first.clone()));
    assert_eq!(log.cut(LogPosition(0)), Err(first.clone()));
    assert_eq!(log.close(), Err(first));
}

/// Writes records, of which those that a full disk refused are left out; returns those that were synced.
fn live_through_a_full_disk(disk: &FaultyDisk, n: u64, heal_after: u64) -> Option<Vec<Vec<u8>>> {
    let (mut log, records) = Log::open_with_segments(Arc::new(disk.clone()), "log", LogPosition(0), 300).ok()?;
    assert!(records.is_empty());
    disk.fail_at_call(n, ErrorKind::StorageFull, Repeat::Forever);
    let (mut kept, mut refused) = (Vec::new(), 0);
    for number in 0..20 {
        let bytes = payload(number);
        match log.append(&bytes).and_then(|_| log.flush()) {
            Ok(()) => kept.push(bytes),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
                if refused == heal_after {
                    disk.heal();
                }
                continue;
            }
        }
        // A sync that fails leaves the log poisoned, whatever the reason.
        log.sync().ok()?;
    }
    Some(kept)
}

#[test]
fn a_full_disk_refuses_records_until_there_is_room_and_spoils_none() {
    let mut survived = 0;
    for n in 1..60 {
        for heal_after in [1, 3] {
            let disk = FaultyDisk::new(n);
            let Some(kept) = live_through_a_full_disk(&disk, n, heal_after) else { continue };
            for loss in Loss::ALL {
                let (_, found) =
                    Log::open(Arc::new(disk.after_crash(loss)), "log", LogPosition(0)).expect("it is sound");
                let found: Vec<Vec<u8>> = found.iter().map(|record| record.bytes.to_vec()).collect();
                assert_eq!(found, kept, "call {n} finds no room, {heal_after} refused, {loss:?}");
            }
            survived += usize::from(kept.len() < 20);
        }
    }
    assert!(survived > 20, "most writes of the log are tried again, {survived} were");
}

/// A log of a few segments, cleanly closed: the disk and the positions after each record.
fn closed_log() -> (FaultyDisk, Vec<u64>) {
    let disk = FaultyDisk::new(3);
    let (mut log, ..) = open(&disk).expect("opens");
    let positions = (0..30)
        .map(|number| {
            let position = log.append(&payload(number)).expect("appends");
            log.sync().expect("syncs");
            position.0
        })
        .collect();
    log.close().expect("closes");
    (disk, positions)
}

fn segment_names(disk: &FaultyDisk) -> Vec<String> {
    disk.list("log").expect("lists").into_iter().map(|name| format!("log/{name}")).collect()
}

#[test]
fn opening_from_a_position_gives_the_records_after_it() {
    let (disk, positions) = closed_log();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    for (index, position) in positions.iter().enumerate() {
        let (log, records) =
            Log::open_with_segments(disk.clone(), "log", LogPosition(*position), SEGMENT).expect("opens");
        assert_eq!(records.len(), positions.len() - index - 1);
        assert_eq!(log.bytes_since(LogPosition(*position)), positions[29] - position);
    }
    let inside = Log::open_with_segments(disk.clone(), "log", LogPosition(positions[3] + 1), SEGMENT);
    assert!(inside.is_err(), "a position within a record is refused");
    let beyond = Log::open_with_segments(disk, "log", LogPosition(positions[29] + 100), SEGMENT);
    assert!(beyond.is_err(), "so is one that the log does not reach");
}

#[test]
fn every_flipped_byte_is_found_and_named() {
    let (disk, positions) = closed_log();
    let names = segment_names(&disk);
    assert!(names.len() > 3, "there are several segments");
    let mut refused = 0;
    for name in &names {
        let length = disk.read(name).expect("reads").len();
        for at in (0..length).step_by(7) {
            let copy = disk.after_crash(Loss::Nothing);
            copy.spoil(name, |bytes| bytes[at] ^= 1 << (at % 8));
            match open(&copy) {
                Err(StorageError::Corrupt { file, offset, .. }) => {
                    assert_eq!(&file, name);
                    assert!(offset as usize <= at, "damage at {at} is named at {offset}");
                    refused += 1;
                }
                Err(StorageError::Newer { .. }) => assert_eq!(at, 7),
                Err(other) => panic!("{name} at {at}: {other}"),
                // Only the mark of the clean stop carries no data.
                Ok((.., records)) => assert_eq!(records.len(), positions.len(), "{name} at {at}"),
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn lost_swapped_doubled_and_zeroed_pieces_are_found() {
    let (disk, _) = closed_log();
    let names = segment_names(&disk);
    let spoiled = |spoil: &dyn Fn(&FaultyDisk)| {
        let copy = disk.after_crash(Loss::Nothing);
        spoil(&copy);
        matches!(open(&copy), Err(StorageError::Corrupt { .. }))
    };
    let (first, second) = (disk.read(&names[0]).expect("reads"), disk.read(&names[1]).expect("reads"));
    assert!(spoiled(&|disk| disk.remove(&names[0]).expect("removes")), "the first segment is missing");
    assert!(spoiled(&|disk| disk.remove(&names[1]).expect("removes")), "a segment in the middle is missing");
    assert!(spoiled(&|disk| disk.spoil(&names[0], |bytes| bytes.truncate(bytes.len() - 5))));
    assert!(spoiled(&|disk| disk.spoil(&names[0], |bytes| bytes[600..1_100].fill(0))));
    assert!(spoiled(&|disk| disk.spoil(&names[0], |bytes| bytes.clone_from(&second))));
    assert!(spoiled(&|disk| {
        disk.spoil(&names[1], |bytes| *bytes = [&second[..20], &first[20..41], &second[41..]].concat());
    }));
    assert!(spoiled(&|disk| disk.spoil(&names[0], |bytes| bytes.truncate(3))));
}

#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    let (disk, _) = closed_log();
    disk.spoil(&segment_names(&disk)[0], |bytes| bytes[7] = 9);
    let error = open(&disk).err().expect("refused");
    assert_eq!(
        error.to_string(),
        "log/00000000000000000000.log has format 9, but this version of headwater reads formats up to 1"
    );
}

#[test]
fn cutting_removes_whole_segments_before_the_position_only() {
    let (disk, positions) = closed_log();
    let (mut log, ..) = open(&disk).expect("opens");
    let before = segment_names(&disk).len();
    log.cut(LogPosition(positions[20])).expect("cuts");
    assert!(segment_names(&disk).len() < before);
    drop(log);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let (_, records) =
        Log::open_with_segments(disk.clone(), "log", LogPosition(positions[20]), SEGMENT).expect("opens");
    assert_eq!(records.len(), 9);
    assert!(Log::open_with_segments(disk, "log", LogPosition(0), SEGMENT).is_err());
}

#[test]
fn it_works_on_a_real_disk_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let large = vec![7; 3 << 20];
    for life in 0..3 {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).expect("opens"));
        let (mut log, records) = Log::open_with_segments(disk, "log", LogPosition(0), SEGMENT).expect("opens");
        assert_eq!(records.len(), life * 21, "what was only appended in the life before is gone");
        assert!(records.iter().enumerate().all(|(index, record)| match index % 21 {
            20 => record.bytes == large,
            number => record.bytes == payload(number),
        }));
        for number in 0..20 {
            log.append(&payload(number)).expect("appends");
        }
        log.append(&large).expect("a record larger than the buffer");
        log.flush().expect("hands over");
        log.append(b"never handed over").expect("appends");
    }
}

#[test]
fn records_that_were_never_synced_are_read_whole_from_a_real_disk() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let open = || {
        let disk: Arc<dyn Disk> = Arc::new(crate::storage::RealDisk::open(dir.path()).expect("it opens"));
        Log::open(disk, "log", LogPosition(0)).expect("it is sound")
    };
    let (mut log, _) = open();
    log.append(b"first").expect("there is room");
    log.append(b"second").expect("there is room");
    log.flush().expect("there is room");
    drop(log);
    let (_log, records) = open();
    let texts: Vec<&[u8]> = records.iter().map(|record| record.bytes.as_ref()).collect();
    assert_eq!(texts, [b"first".as_slice(), b"second".as_slice()]);
}
