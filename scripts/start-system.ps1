<#
.SYNOPSIS
  Starts the whole system in containers on Windows. Needs Docker Desktop.
.DESCRIPTION
  The same as scripts/start-system.sh --mode docker. Settings, the ports among them, come from .env, which is made from
  .env.example.
  To end it: docker compose down (with --volumes to delete the data too).
.PARAMETER Fresh
  Deletes all data of the system first.
.EXAMPLE
  .\scripts\start-system.ps1
#>
[CmdletBinding()]
param(
    [switch] $Fresh
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$repository = Split-Path -Parent $PSScriptRoot
Push-Location $repository
try {
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    Write-Host 'mode docker: the only one on Windows; in WSL, scripts/start-system.sh has more'

    # Through cmd: Windows PowerShell takes redirected error output of a program for an error of its own.
    cmd /c 'docker info >nul 2>&1'
    if ($LASTEXITCODE -ne 0) {
        throw 'No Docker engine answers. Start Docker Desktop and run this again.'
    }

    if (-not (Test-Path '.env')) {
        Copy-Item '.env.example' '.env'
        Write-Host '  copied .env.example to .env, which docker compose reads'
    }
    # The scripts inside the images need Unix line ends, whatever git has done to them.
    foreach ($file in Get-ChildItem -Recurse -Include '*.sh' -Path 'scripts', 'postgres') {
        $text = [System.IO.File]::ReadAllText($file.FullName)
        if ($text.Contains("`r`n")) {
            [System.IO.File]::WriteAllText($file.FullName, $text.Replace("`r`n", "`n"))
        }
    }

    if ($Fresh) { docker compose down --volumes }
    docker compose up --detach --build --wait
    if ($LASTEXITCODE -ne 0) {
        docker compose ps --all
        docker compose logs --tail 15 register replicator webapp connect
        throw "docker compose up failed; 'docker compose logs SERVICE' says more, 'docker compose down' ends what runs"
    }

    $setting = @{}
    foreach ($line in Get-Content '.env') {
        if ($line -match '^([A-Z][A-Z0-9_]*)=(.*)$') { $setting[$Matches[1]] = $Matches[2] }
    }
    Write-Host ''
    Write-Host ("The system runs ({0:n0} s)." -f $watch.Elapsed.TotalSeconds)
    Write-Host ''
    Write-Host "  web application   http://localhost:$($setting.WEB_PORT)"
    Write-Host "  demo, 1000 reads  http://localhost:$($setting.WEB_PORT)/demo"
    Write-Host "  replicator        http://localhost:$($setting.REPLICATOR_PORT)/v1/replicas"
    Write-Host "  Debezium Connect  http://localhost:$($setting.CONNECT_PORT)/connectors/postgres-connector/status"
    Write-Host "  Redpanda Console  http://localhost:$($setting.CONSOLE_PORT)"
    Write-Host ''
    Write-Host 'Three things to try:'
    Write-Host "  1. Open http://localhost:$($setting.WEB_PORT), write a post, and see which replica shows it."
    Write-Host "  2. Open http://localhost:$($setting.WEB_PORT)/demo and run the 1000 reads."
    Write-Host '  3. Stop a replica and read on:  docker compose stop replica-2  (and start it again)'
}
finally {
    Pop-Location
}
