//! Where the services of a cloud are.

use azure_core::http::Url;
use clap::ValueEnum;

/// A cloud of Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Cloud {
    /// The one that nearly everybody uses.
    #[default]
    Public,
    /// Azure Government of the United States.
    UsGovernment,
    /// Azure in China, operated by 21Vianet.
    China,
}

/// Where the services of a cloud are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Azure Resource Manager.
    pub management: Url,
    /// Microsoft Entra, which gives out tokens.
    pub authority: Url,
}

impl Cloud {
    /// Addresses of Azure Resource Manager and of Microsoft Entra ("Azure Government: developer guide", "Azure China 21Vianet:
    /// developer guide").
    #[must_use]
    pub const fn addresses(self) -> (&'static str, &'static str) {
        match self {
            Self::Public => ("https://management.azure.com", "https://login.microsoftonline.com"),
            Self::UsGovernment => {
                ("https://management.usgovcloudapi.net", "https://login.microsoftonline.us")
            }
            Self::China => {
                ("https://management.chinacloudapi.cn", "https://login.partner.microsoftonline.cn")
            }
        }
    }
}

impl Endpoints {
    /// What a token for Azure Resource Manager is for.
    #[must_use]
    pub fn management_scope(&self) -> String {
        format!("{}/.default", self.management.as_str().trim_end_matches('/'))
    }
}
