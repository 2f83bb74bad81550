//! The Redis store without Crux: the very calls of scripts by which Crux has written one instance,
//! recorded by `MONITOR` and sent again under other ids, pipelined by a client that does nothing
//! else. A call goes out when the one before it of the same instance is answered.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::{ConnectionLike, MultiplexedConnection};

use crate::Outcome;
use crate::lanes::concurrently;
use crate::measure::{Meter, Process};
use crate::servers;

/// As many as Crux has.
const TAGS: usize = 256;
/// How long to wait for the last messages.
const SILENCE: Duration = Duration::from_millis(300);

/// What a server is asked while it writes one instance.
#[derive(Debug, Clone)]
pub struct Calls {
    calls: Vec<Vec<Piece>>,
}

/// A word of a command.
#[derive(Debug, Clone)]
enum Piece {
    /// The base of the instance's tag.
    Base,
    /// With the instance's id in these places.
    Word(Vec<u8>, Vec<usize>),
}

/// Everything that the server at that port is asked while this lives.
pub struct Recorder {
    lines: BufReader<TcpStream>,
}

impl Recorder {
    pub fn begin(port: u16) -> Outcome<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut recorder = Self { lines: BufReader::new(stream) };
        let said = recorder.line()?;
        if said == b"+OK" {
            Ok(recorder)
        } else {
            Err(format!("MONITOR: {}", String::from_utf8_lossy(&said)).into())
        }
    }

    /// The calls that append that instance's rows: those of the script that is called for it first.
    pub fn calls_of(mut self, instance: &str) -> Outcome<Calls> {
        self.lines.get_ref().set_read_timeout(Some(SILENCE))?;
        let (mut calls, mut script) = (Vec::new(), None);
        // Once there is silence, reading is an error.
        while let Ok(line) = self.line() {
            let words = words(&line);
            // EVALSHA, the script, one key, the key, and the first argument.
            let [name, called, _, base, first, ..] = words.as_slice() else { continue };
            if name == b"EVALSHA"
                && first == instance.as_bytes()
                && script.get_or_insert_with(|| called.clone()) == called
            {
                let piece = |word: &Vec<u8>| {
                    if word == base {
                        Piece::Base
                    } else {
                        Piece::Word(word.clone(), places(word, instance))
                    }
                };
                calls.push(words.iter().map(piece).collect());
            }
        }
        if calls.is_empty() {
            Err("the server saw no call for the instance".into())
        } else {
            Ok(Calls { calls })
        }
    }

    fn line(&mut self) -> Outcome<Vec<u8>> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        Ok(line.trim_ascii_end().to_owned())
    }
}

/// The quoted words of a line of `MONITOR`, as they were.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied();
    while bytes.by_ref().any(|byte| byte == b'"') {
        let mut word = Vec::new();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => match bytes.next() {
                    Some(b'n') => word.push(b'\n'),
                    Some(b'r') => word.push(b'\r'),
                    Some(b't') => word.push(b'\t'),
                    Some(b'a') => word.push(7),
                    Some(b'b') => word.push(8),
                    Some(b'x') => {
                        let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                        let byte = std::str::from_utf8(&digits)
                            .ok()
                            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                        word.extend(byte);
                    }
                    other => word.extend(other),
                },
                byte => word.push(byte),
            }
        }
        words.push(word);
    }
    words
}

fn places(word: &[u8], id: &str) -> Vec<usize> {
    word.windows(id.len())
        .enumerate()
        .filter(|(_, window)| *window == id.as_bytes())
        .map(|(place, _)| place)
        .collect()
}

/// What a run came to.
pub struct Called {
    pub calls: u64,
    pub calls_per_s: f64,
    pub cpu_us_per_call: Option<f64>,
}

impl Calls {
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// That of a row, the first being 0, for another instance; `tag` is any number.
    pub fn command(&self, row: usize, tag: usize, id: &str) -> redis::Cmd {
        let base = format!("crux:{{{}}}", tag % TAGS);
        self.calls.get(row).map_or_else(redis::Cmd::new, |call| command(call, &base, id))
    }

    /// Whether it was carried out.
    pub fn check(answer: &Value) -> Outcome<()> {
        match answer {
            Value::Array(words) if words.first() == Some(&Value::BulkString(b"done".to_vec())) => {
                Ok(())
            }
            other => Err(format!("an append was not carried out: {other:?}").into()),
        }
    }

    /// The same again and again for `time`, for as many instances at a time, divided among
    /// `connections`.
    pub async fn repeat(
        &self,
        url: &str,
        connections: usize,
        in_flight: usize,
        time: Duration,
    ) -> Outcome<Called> {
        let client = servers::client(url)?;
        let connections = connections.min(in_flight);
        let meter = Meter::begin(Process::own());
        let begun = Instant::now();
        let lane = |lane: usize| {
            let (calls, client) = (self.clone(), client.clone());
            let share = in_flight / connections + usize::from(lane < in_flight % connections);
            async move {
                let mut connection = client.get_multiplexed_async_connection().await?;
                let mut count = 0;
                for group in (0_u32..).take_while(|_| begun.elapsed() < time) {
                    let ids: Vec<String> = (0..share)
                        .map(|n| format!("{lane:08x}-{n:04x}-7000-8000-{group:012x}"))
                        .collect();
                    count += calls.write(&mut connection, &ids).await?;
                }
                Ok(count)
            }
        };
        let calls: u64 = concurrently(connections, lane).await?.into_iter().sum();
        Ok(Called {
            calls,
            calls_per_s: calls as f64 / begun.elapsed().as_secs_f64(),
            cpu_us_per_call: meter.cpu_us_per(calls),
        })
    }

    /// These instances, each call of all of them together; how many calls that were.
    async fn write(&self, connection: &mut MultiplexedConnection, ids: &[String]) -> Outcome<u64> {
        for row in 0..self.calls.len() {
            let mut pipeline = redis::Pipeline::with_capacity(ids.len());
            for (n, id) in ids.iter().enumerate() {
                pipeline.add_command(self.command(row, n, id));
            }
            for answer in connection.req_packed_commands(&pipeline, 0, ids.len()).await? {
                Self::check(&answer.extract_error()?)?;
            }
        }
        Ok((self.calls.len() * ids.len()) as u64)
    }
}

fn command(call: &[Piece], base: &str, id: &str) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for piece in call {
        match piece {
            Piece::Base => command.arg(base),
            Piece::Word(word, places) if places.is_empty() => command.arg(word),
            Piece::Word(word, places) => {
                let mut word = word.clone();
                places.iter().for_each(|place| {
                    word[*place..place + id.len()].copy_from_slice(id.as_bytes())
                });
                command.arg(word)
            }
        };
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_monitor_is_read_back_to_its_words() {
        let line = br#"1339518083.107412 [0 127.0.0.1:60866] "EVALSHA" "12ab" "1" "crux:{7}" "a \"b\" \\ \xc3\xa9\n""#;
        let expected: [&[u8]; 5] =
            [b"EVALSHA", b"12ab", b"1", b"crux:{7}", b"a \"b\" \\ \xc3\xa9\n"];
        assert_eq!(words(line), expected);
    }

    #[test]
    fn another_id_takes_all_places_of_the_first() {
        let piece = Piece::Word(b"x id-1 id-1".to_vec(), places(b"x id-1 id-1", "id-1"));
        let command = command(&[Piece::Base, piece], "crux:{1}", "id-2");
        assert_eq!(command.get_packed_command(), b"*2\r\n$8\r\ncrux:{1}\r\n$11\r\nx id-2 id-2\r\n");
    }
}
