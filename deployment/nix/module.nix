# The service on NixOS, and the nightly check: the units say the same as those in systemd/, which a test compares.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.cim-domain-person;

  # What an admin may write by hand on a running machine; the image of a container can be told its NATS server by it.
  local = "/etc/cim-domain-person/environment";

  # A percent sign begins a specifier of systemd; in a URL it is a percent sign.
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];

  # Any of these can be set plainly in systemd.services.cim-domain-person.serviceConfig.
  defaults = builtins.mapAttrs (_: lib.mkDefault);

  documentation = [ "https://github.com/thecowboyai/cim-domain-person" ];

  environment =
    builtins.mapAttrs (_: literal) cfg.environment
    // lib.optionalAttrs (cfg.credentialsFile != null) { NATS_CREDS = "%d/nats.creds"; };

  secrets = {
    EnvironmentFile = [ "-${local}" ] ++ lib.optional (cfg.environmentFile != null) cfg.environmentFile;
  }
  // lib.optionalAttrs (cfg.credentialsFile != null) {
    LoadCredential = [ "nats.creds:${cfg.credentialsFile}" ];
  };

  sandbox = {
    DynamicUser = true;
    UMask = "0077";
    # A core has personal data in it.
    LimitCORE = 0;
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
    PrivateDevices = true;
    PrivateUsers = true;
    PrivateIPC = true;
    PrivateMounts = true;
    # What ProtectSystem leaves writable for everybody.
    ReadOnlyPaths = "-/run -/tmp -/var/tmp -/dev/shm -/dev/mqueue -/dev/hugepages";
    RemoveIPC = true;
    DevicePolicy = "closed";
    ProtectProc = "invisible";
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    NoNewPrivileges = true;
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    SystemCallErrorNumber = "EPERM";
  };
in
{
  _class = "nixos";

  imports = [ ./options.nix ];

  # Not on macOS, which has no timers of systemd.
  options.services.cim-domain-person.verify = {
    enable = lib.mkEnableOption ''
      the check of all that is stored, every night, with or without the service. On one machine of those that run
      replicas. It signs in as the service does'';

    onCalendar = lib.mkOption {
      type = lib.types.str;
      default = "*-*-* 03:00";
      example = "Sun 04:00";
      description = "When the check begins, as in systemd.time(7); up to half an hour is added by chance.";
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      systemd.services.cim-domain-person = {
        description = "Person service: commands over NATS, events in JetStream";
        inherit documentation;
        wantedBy = [ "multi-user.target" ];
        # It waits for NATS by itself. The order is for the way out: the network and a server on this machine outlive the
        # drain.
        after = [
          "network.target"
          "nats-server.service"
          "nats.service"
        ];
        # It is never given up: NATS may be away for as long as it takes somebody to mend it.
        startLimitIntervalSec = 0;

        environment = environment // {
          # Where SIGHUP reads LOG_LEVEL again.
          ENVIRONMENT_FILE = local;
        };

        serviceConfig = defaults (
          secrets
          // sandbox
          // {
            Type = "notify";
            NotifyAccess = "main";
            ExecStart = "${lib.getExe cfg.package} run";
            ExecReload = "/bin/sh -c 'kill -HUP $MAINPID'";

            # It is started when a command would be answered, and that takes as long as NATS is away.
            TimeoutStartSec = "infinity";
            # Above DRAIN_TIMEOUT (10s) and what leaving takes beyond it. Whoever raises the one raises the other.
            TimeoutStopSec = "20s";
            KillMode = "mixed";
            WatchdogSec = "30s";
            Restart = "always";
            RestartSec = "2s";
            # Bad usage, a refused sign-in, a bad configuration: these need a person, not another try.
            RestartPreventExitStatus = "64 77 78";
          }
        );
      };
    })

    (lib.mkIf cfg.verify.enable {
      systemd.services.cim-domain-person-verify = {
        description = "Person service: check of all that is stored";
        inherit documentation environment;
        after = [ "network-online.target" ];
        wants = [ "network-online.target" ];
        serviceConfig = defaults (
          secrets
          // sandbox
          // {
            Type = "oneshot";
            # After the first time it reads only what is new, until somebody deletes the file.
            ExecStart = "${lib.getExe cfg.package} verify --state %S/cim-domain-person-verify/state";
            # Ids and hashes of persons are in there, nothing else of them.
            StateDirectory = "cim-domain-person-verify";
            StateDirectoryMode = "0700";
            # Everybody else comes first. At SIGTERM it writes down how far it came.
            Nice = 19;
            TimeoutStopSec = "60s";
          }
        );
      };

      systemd.timers.cim-domain-person-verify = {
        description = "Person service: nightly check of all that is stored";
        wantedBy = [ "timers.target" ];
        timerConfig = defaults {
          OnCalendar = cfg.verify.onCalendar;
          RandomizedDelaySec = "30min";
          Persistent = true;
        };
      };
    })
  ];
}
