//! Appends: one script per row, the scripts of a batch pipelined. A script checks everything and
//! then writes; if its response is lost the same append is retried, and the token in the row shows
//! that it had succeeded.

use redis::Value;

use super::Shared;
use super::error::unreadable;
use super::keys::{part, timed};
use super::read::stored;
use super::scripts::APPEND;
use crate::id::InstanceId;
use crate::redis_client::Call;
use crate::store::{Append, Appended, Error, NewInstance, RecordChange, RequestKey, Seq};

pub(super) async fn append(shared: &Shared, batch: Vec<Append>) -> Vec<Result<Appended, Error>> {
    let node = match shared.node.number() {
        Ok(node) => node,
        Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
    };
    let asked: Vec<(InstanceId, Seq, Option<RequestKey>)> = batch
        .iter()
        .map(|append| {
            (
                append.instance,
                append.seq,
                append.start.as_ref().and_then(|start| start.request.clone()),
            )
        })
        .collect();
    let bases: Vec<&str> =
        batch.iter().map(|append| shared.keys.of_instance(append.instance)).collect();
    let calls = batch
        .into_iter()
        .zip(&bases)
        .map(|(append, base)| call(shared, base, node, append))
        .collect();
    let before = shared.connections(&bases).await;
    let answers = shared.replicated.call_all(calls).await;
    let results = asked
        .iter()
        .zip(answers)
        .map(|((instance, seq, request), answer)| read(*instance, *seq, request.as_ref(), answer?));
    let mut results: Vec<Result<Appended, Error>> = results.collect();
    if shared.replicas.is_some() {
        let is_there = |result: &Result<Appended, Error>| {
            matches!(result, Ok(Appended::Done | Appended::Same))
        };
        let there = bases
            .iter()
            .zip(before)
            .zip(&results)
            .filter(|(_, result)| is_there(result))
            .map(|(of, _)| of);
        let (there, before): (Vec<&str>, Vec<Option<u64>>) = there.unzip();
        if let Err(error) = shared.wait_for_replicas(&there, &before).await {
            results
                .iter_mut()
                .filter(|result| is_there(result))
                .for_each(|result| *result = Err(error.clone()));
        }
    }
    results
}

fn call(shared: &Shared, base: &str, node: u64, append: Append) -> Call {
    let Append { instance, seq, token, row, settled, start, record } = append;
    let (status, ended_at, over) = match record {
        None => (String::new(), String::new(), String::new()),
        Some(RecordChange { status, ended: None }) => {
            (status.word().to_owned(), String::new(), String::new())
        }
        Some(RecordChange { status, ended: Some((at, keep_ms)) }) => {
            (status.word().to_owned(), at.0.to_string(), timed(at.plus_ms(keep_ms), instance))
        }
    };
    let mut args: Vec<Vec<u8>> = Vec::with_capacity(17);
    args.push(instance.to_string().into_bytes());
    args.push(seq.to_string().into_bytes());
    args.push(token.to_string().into_bytes());
    args.push(row.as_bytes().to_owned());
    args.push(settled.to_string().into_bytes());
    args.push(node.to_string().into_bytes());
    args.push(vec![if shared.replicas.is_some() { b'1' } else { b'0' }]);
    args.extend([status, ended_at, over].map(String::into_bytes));
    if let Some(start) = start.filter(|_| seq == 1) {
        let NewInstance { workflow, version, definition, owner, started_at, request } = *start;
        let (request, used) = match request {
            Some(request) => {
                (request_key(&request), format!("{} {instance}", hex(&request.input_hash)))
            }
            None => Default::default(),
        };
        args.extend(
            [
                workflow,
                version.to_string(),
                definition,
                owner,
                started_at.0.to_string(),
                request,
                used,
            ]
            .map(String::into_bytes),
        );
    }
    Call { script: &APPEND, base: base.to_owned(), args }
}

fn request_key(request: &RequestKey) -> String {
    format!("{}:{}", part(&request.scope), request.id)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(
    instance: InstanceId,
    seq: Seq,
    request: Option<&RequestKey>,
    answer: Value,
) -> Result<Appended, Error> {
    let wrong = || unreadable("the answer to an append");
    let Value::Array(words) = answer else { return Err(wrong()) };
    let mut words = words.into_iter();
    let Some(Value::BulkString(what)) = words.next() else { return Err(wrong()) };
    match (what.as_slice(), words.next()) {
        (b"done", _) => Ok(Appended::Done),
        (b"same", _) => Ok(Appended::Same),
        (b"behind", Some(Value::Array(rows))) => {
            let rows = rows.into_iter().zip(seq..).map(|(row, seq)| stored(seq, row));
            Ok(Appended::Behind(rows.collect::<Result<_, _>>()?))
        }
        (b"used", Some(used)) => {
            let used: String = redis::from_redis_value(used).map_err(|_| wrong())?;
            let (hash, first) = used.split_once(' ').ok_or_else(wrong)?;
            let same_input = request.is_some_and(|request| hex(&request.input_hash) == hash);
            Ok(Appended::Used { instance: first.parse().map_err(|_| wrong())?, same_input })
        }
        (b"lost", Some(Value::Int(have))) => {
            Ok(Appended::Lost { have: Seq::try_from(have).map_err(|_| wrong())? })
        }
        (b"owned", Some(by)) => {
            let by: String = redis::from_redis_value(by).map_err(|_| wrong())?;
            Ok(Appended::OwnedElsewhere { by: by.parse().map_err(|_| wrong())? })
        }
        (b"zero", _) => Err(Error::Broken(format!("the rows of {instance} begin with number 1"))),
        (b"fenced", _) => Err(Error::Unavailable(
            "this node's lease ran out, and others took over what it did".to_owned(),
        )),
        _ => Err(wrong()),
    }
}
