{
  description = "Person service: an event-sourced NATS microservice, as a package, a NixOS and a nix-darwin module and a Proxmox image";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      darwin = [ "aarch64-darwin" ];

      isLinux = system: builtins.elem system linux;
      forAll =
        make: lib.genAttrs (linux ++ darwin) (system: make system nixpkgs.legacyPackages.${system});

      # A container for Proxmox, as `pct create` takes it; its address comes from `--net0`.
      container =
        system:
        lib.nixosSystem {
          modules = [
            ./deployment/nix/container.nix
            {
              nixpkgs.hostPlatform = system;
              services.cim-domain-person.enable = true;
              system.stateVersion = lib.trivial.release;
            }
          ];
        };

      # The tarball right under ./result, where nixpkgs puts it a folder deeper.
      personLxc =
        system: pkgs:
        let
          image = (container system).config.system.build.images.proxmox-lxc;
          inherit (image.passthru) filePath;
        in
        pkgs.runCommand "person-lxc" { passthru = { inherit image; }; } ''
          mkdir $out
          ln -s ${image}/${filePath} $out/${baseNameOf filePath}
        '';
    in
    {
      packages = forAll (
        system: pkgs:
        let
          person-service = pkgs.callPackage ./deployment/nix/package.nix { };
        in
        {
          inherit person-service;
          default = person-service;
        }
        // lib.optionalAttrs (isLinux system) { person-lxc = personLxc system pkgs; }
        // lib.optionalAttrs (!isLinux system) { person-service-darwin = person-service; }
      );

      nixosModules = {
        default = ./deployment/nix/module.nix;
        container = ./deployment/nix/container.nix;
      };

      darwinModules.default = ./deployment/nix/darwin.nix;

      checks = forAll (
        system: pkgs:
        {
          inherit (self.packages.${system}) person-service;
        }
        // lib.optionalAttrs (isLinux system) {
          replicas = pkgs.testers.runNixOSTest ./deployment/nix/test.nix;
        }
      );

      formatter = forAll (_: pkgs: pkgs.nixfmt-tree);
    };
}
