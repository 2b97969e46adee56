# The service on macOS, for nix-darwin: a daemon of launchd.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.cim-domain-person;

  user = "_cim-domain-person";
  # One of those that macOS leaves to others.
  id = 536;

  logs = "/var/log/cim-domain-person";

  run = "${lib.getExe cfg.package} run";

  # launchd knows nothing like EnvironmentFile: a shell of the service's own user reads it.
  command =
    if cfg.environmentFile == null then
      run
    else
      toString (
        pkgs.writeShellScript "person-service-with-environment" ''
          set -eua
          . ${lib.escapeShellArg cfg.environmentFile}
          set +a
          exec ${run}
        ''
      );
in
{
  _class = "darwin";

  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable {
    users.users.${user} = {
      uid = id;
      gid = id;
      home = "/var/empty";
      shell = "/usr/bin/false";
      description = "Person service";
    };
    users.groups.${user} = {
      gid = id;
      description = "Person service";
    };
    users.knownUsers = [ user ];
    users.knownGroups = [ user ];

    # launchd opens the log as the service's user. It never turns it over: newsyslog does.
    system.activationScripts.preActivation.text = ''
      install -d -m 0750 -o ${toString id} -g ${toString id} ${logs}
    '';
    environment.etc."newsyslog.d/cim-domain-person.conf".text = ''
      # logfilename                                    [owner:group]  mode count size  when flags
      ${logs}/person-service.log  ${user}:${user}  640  5  10000  *  N
    '';

    launchd.daemons.cim-domain-person = {
      # It waits for the volume of /nix/store.
      inherit command;
      environment =
        cfg.environment
        // lib.optionalAttrs (cfg.credentialsFile != null) { NATS_CREDS = cfg.credentialsFile; }
        // lib.optionalAttrs (cfg.environmentFile != null) { ENVIRONMENT_FILE = cfg.environmentFile; };
      serviceConfig = {
        Label = "com.thecowboyai.cim-domain-person";
        UserName = user;
        GroupName = user;
        WorkingDirectory = "/";
        Umask = 63; # 077
        RunAtLoad = true;
        # A clean end is meant; every other is restarted.
        KeepAlive.SuccessfulExit = false;
        ThrottleInterval = 10;
        # Above DRAIN_TIMEOUT (10s).
        ExitTimeOut = 20;
        # Background would be throttled.
        ProcessType = "Standard";
        SoftResourceLimits = {
          Core = 0;
          NumberOfFiles = 4096;
        };
        HardResourceLimits = {
          Core = 0;
          NumberOfFiles = 4096;
        };
        StandardOutPath = "${logs}/person-service.log";
        StandardErrorPath = "${logs}/person-service.log";
      };
    };
  };
}
