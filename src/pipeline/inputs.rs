//! Input events on their way from viewers to the source. Bounded: a source that does not take them loses the oldest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

use crate::wire::input::{Event, Input};

#[derive(Default)]
pub struct Inputs {
    queue: Mutex<Queue>,
    ready: Condvar,
    shown: AtomicU32,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Input>,
    closed: bool,
}

impl Inputs {
    const MOST: usize = 256;

    /// Adds an event. A pointer that only moves on replaces its last position, with the movements added up.
    pub fn push(&self, mut input: Input) {
        let mut queue = self.queue.lock().unwrap();
        if queue.closed {
            return;
        }
        if let (Some(Input { event: last, .. }), now) = (queue.events.back(), &mut input.event)
            && let (
                Event::Pointer { dx: dx0, dy: dy0, buttons: b0, shift: s0, .. },
                Event::Pointer { dx, dy, buttons, shift, .. },
            ) = (last, now)
            && (b0, s0) == (&*buttons, &*shift)
        {
            *dx += dx0;
            *dy += dy0;
            queue.events.pop_back();
        }
        if queue.events.len() >= Inputs::MOST {
            queue.events.pop_front();
        }
        queue.events.push_back(input);
        self.ready.notify_all();
    }

    /// Takes all that wait.
    pub fn drain(&self) -> Vec<Input> {
        self.queue.lock().unwrap().events.drain(..).collect()
    }

    /// Waits for the next event; `None` once closed.
    pub fn wait(&self) -> Option<Input> {
        let mut queue = self.queue.lock().unwrap();
        loop {
            if queue.closed {
                return None;
            }
            match queue.events.pop_front() {
                Some(input) => return Some(input),
                None => queue = self.ready.wait(queue).unwrap(),
            }
        }
    }

    /// Ends every [`Inputs::wait`]; what comes now is for nobody.
    pub fn close(&self) {
        *self.queue.lock().unwrap() = Queue { closed: true, ..Queue::default() };
        self.ready.notify_all();
    }

    /// Begins anew for the next source. What viewers sent before the first one is there for it.
    pub fn reopen(&self) {
        self.queue.lock().unwrap().closed = false;
        self.shown.store(0, Relaxed);
    }

    /// The number of the newest event that the source was given; frames captured from now on carry it.
    pub fn given(&self, view: u32) {
        self.shown.store(view, Relaxed);
    }

    pub fn view(&self) -> u32 {
        self.shown.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(view: u32, dx: f32, buttons: u8) -> Input {
        Input { view, event: Event::Pointer { x: 0.5, y: 0.5, dx, dy: 0.0, buttons, shift: false } }
    }

    #[test]
    fn moves_are_merged_and_presses_are_not() {
        let inputs = Inputs::default();
        for (view, buttons) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 0)] {
            inputs.push(moved(view, 0.25, buttons));
        }
        assert_eq!(inputs.drain(), [moved(2, 0.5, 0), moved(4, 0.5, 1), moved(5, 0.25, 0)]);
    }

    #[test]
    fn events_reach_the_first_source_but_not_the_next_one() {
        let inputs = Inputs::default();
        inputs.push(moved(1, 0.0, 0));
        inputs.reopen();
        assert_eq!(inputs.wait().unwrap().view, 1);
        inputs.push(moved(2, 0.0, 0));
        inputs.close();
        inputs.push(moved(3, 0.0, 0));
        assert_eq!(inputs.wait(), None);
        inputs.reopen();
        assert_eq!(inputs.drain(), []);
    }

    #[test]
    fn a_flood_is_bounded() {
        let inputs = Inputs::default();
        for view in 0..10_000 {
            inputs.push(Input { view, event: Event::Key { key: "a".into(), down: view % 2 == 0 } });
        }
        let kept = inputs.drain();
        assert_eq!((kept.len(), kept.last().unwrap().view), (Inputs::MOST, 9999));
    }
}
