//! Proves no rule of the protocol: changes of endpoints.

use super::*;
use crate::hooks::test_store::{TestStore, endpoint};

fn demo() -> Appkey {
    "demo".parse().unwrap()
}

#[test]
fn a_replaced_secret_signs_as_long_as_was_promised() {
    let mut endpoint = endpoint("a", "https://a.example/");
    let secret = endpoint.secrets[0].0.clone();
    let begin = 1_000;
    endpoint.rotate(WallTime(begin)).unwrap();
    // The answer is lost, so the caller rotates again.
    let last = endpoint.rotate(WallTime(begin + 10)).unwrap();
    let signs = |endpoint: &Endpoint, at| endpoint.signing(WallTime(at));
    assert_eq!(endpoint.secrets[0].0, last);
    assert!(signs(&endpoint, begin + OVERLAP_MS - 1).contains(&secret));
    assert!(!signs(&endpoint, begin + OVERLAP_MS).contains(&secret));
    assert_eq!(signs(&endpoint, begin + OVERLAP_MS).len(), 2);
    for _ in 0..20 {
        endpoint.rotate(WallTime(begin + 20)).unwrap();
    }
    assert_eq!(endpoint.secrets.len(), MAX_SECRETS);
    endpoint.rotate(WallTime(begin + 20 + OVERLAP_MS)).unwrap();
    assert_eq!(endpoint.secrets.len(), 2, "those that have expired are removed");
}

#[tokio::test]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let store = TestStore::open("changes");
    let endpoints = Endpoints::load(store.1.database()).await.unwrap();
    assert!(endpoints.add(endpoint("a", "https://a.example/")).await.unwrap());
    let app = demo();
    let rotate = |one: &mut Endpoint| one.rotate(WallTime(2)).map_err(|_| DatabaseError::Failed);
    let disable = |one: &mut Endpoint| {
        one.enabled = false;
        Ok::<_, DatabaseError>(())
    };
    let (rotated, disabled) =
        tokio::join!(endpoints.change(&app, "a", rotate), endpoints.change(&app, "a", disable));
    let ((_, secret), _) = (rotated.unwrap().unwrap(), disabled.unwrap().unwrap());
    let kept = endpoints.get(&app, "a").unwrap();
    assert!(!kept.enabled);
    assert_eq!(kept.secrets[0], (secret, None));
    let stored = Endpoints::load(store.1.database()).await.unwrap();
    assert_eq!(stored.get(&app, "a"), Some(kept));
    let enable = |one: &mut Endpoint| {
        one.enabled = true;
        Ok::<_, DatabaseError>(())
    };
    let (removed, changed) =
        tokio::join!(endpoints.remove(&app, "a"), endpoints.change(&app, "a", enable));
    assert!(removed.unwrap() && changed.unwrap().is_none(), "a removed one comes back");
    assert!(endpoints.get(&app, "a").is_none());
    assert!(Endpoints::load(store.1.database()).await.unwrap().of(&app).is_empty());
    assert!(!endpoints.remove(&app, "a").await.unwrap());
}

#[tokio::test]
async fn the_number_of_an_endpoint_tells_a_pause_or_another_url() {
    let store = TestStore::open("numbers");
    let endpoints = Endpoints::load(store.1.database()).await.unwrap();
    assert!(endpoints.add(endpoint("a", "https://a.example/")).await.unwrap());
    let number = || endpoints.enabled().first().map(|(_, number)| *number);
    let first = number();
    assert!(first.is_some());
    change(&endpoints, |one| one.events = vec!["channelEnded".to_owned()]).await;
    assert_eq!(number(), first);
    change(&endpoints, |one| one.enabled = false).await;
    assert_eq!(number(), None);
    change(&endpoints, |one| one.enabled = true).await;
    let second = number();
    assert!(second.is_some() && second != first);
    change(&endpoints, |one| one.url = "https://b.example/".to_owned()).await;
    assert!(number().is_some() && number() != second);
}

async fn change(endpoints: &Endpoints, change: fn(&mut Endpoint)) {
    let change = |one: &mut Endpoint| {
        change(one);
        Ok::<_, DatabaseError>(())
    };
    assert!(endpoints.change(&demo(), "a", change).await.unwrap().is_some());
}
