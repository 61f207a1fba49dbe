//! Several whole replicas in front of one upstream, with a real Redis between them.

use sse_sunset::metrics::Format;

use crate::support::redis::Redis;
use crate::support::{LegacyClient, Proxy};

/// What all replicas share.
pub(super) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Replicas in front of one upstream, which know each other.
pub(super) struct Replicas {
    pub(super) redis: Redis,
    pub(super) all: Vec<Proxy>,
}

impl Replicas {
    pub(super) async fn start(count: usize, upstream: &str, options: &[(&'static str, &str)]) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let mut given = vec![("fleet", url.as_str()), ("fleet-key", KEY)];
        given.extend(options);
        let all = (0..count).map(|_| Proxy::start(upstream, &given)).collect();
        let replicas = Replicas { redis, all };
        replicas.know_each_other().await;
        replicas
    }

    pub(super) async fn know_each_other(&self) {
        let peers = format!("fleet_peers {}\n", self.all.len() - 1);
        for proxy in &self.all {
            let knows = |text: &str| text.contains(&peers) && text.contains("fleet_connected 1\n");
            proxy.metrics_show(|metrics| knows(&metrics.exposition(Format::Classic))).await;
        }
    }

    /// What is missing in a Redis that was just started proves nothing, and waiting for it takes long.
    pub(super) fn redis_has_been_there_for_long(&self) {
        assert_eq!(self.redis.text(&["SET", "{sse-sunset}:since", "0", "XX"]), "OK");
    }

    /// A client whose stream is at the first replica, and whose POSTs come to the second.
    pub(super) async fn client(&self, headers: &[(&'static str, &str)]) -> LegacyClient {
        let mut client = LegacyClient::connect(&self.all[0], headers).await;
        client.post_to(&self.all[1]);
        client
    }

    /// Drains all; gives their logs.
    pub(super) async fn stop(self) -> Vec<Vec<serde_json::Value>> {
        let mut logs = Vec::new();
        for proxy in self.all {
            logs.push(proxy.stop().await);
        }
        logs
    }
}
