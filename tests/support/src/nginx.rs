//! nginx with its RTMP module, as Debian packages both. In: a folder for its files. Out: a server that accepts pushes
//! to and plays of `rtmp://ADDRESS/live/STREAM`. Deliberately absent: other settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::TEST_TIMEOUT;

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: PathBuf,
    /// The address on which it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx on a free loopback port, with its files in `folder`.
    ///
    /// # Errors
    /// nginx is not installed, or does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = free.local_addr()?;
        drop(free);
        Self::start_at(folder.join("nginx"), address).await
    }

    async fn start_at(folder: PathBuf, address: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\ndaemon off;\nmaster_process off;\n\
             pid {0}/pid;\nerror_log {0}/error.log crit;\nevents {{ worker_connections 4096; }}\n\
             rtmp {{ server {{ listen {address}; chunk_size 4096; application live {{ live on; \
             wait_key on; }} }} }}\n",
            folder.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config)?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("nginx: apt-get install nginx libnginx-mod-rtmp")?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                // nginx does not report that it listens, so this polls.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, listens).await.context("nginx does not listen")?;
        Ok(Nginx { child, folder, address })
    }

    /// Kills nginx and starts another one on the same address.
    ///
    /// # Errors
    /// nginx does not end, or does not start again.
    pub async fn restart(mut self) -> Result<Self> {
        self.child.kill().await?;
        Self::start_at(self.folder, self.address).await
    }

    /// The process id.
    ///
    /// # Errors
    /// nginx has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("nginx has ended")
    }
}
