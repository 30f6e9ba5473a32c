/** The machine that figures were measured on, as far as it explains them. */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { arch, cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { callApi } from '../lab/engine-api.ts'
import { run } from '../lab/run.ts'
import { sampleOf } from './measure.ts'

export interface Machine {
  readonly cpu: string
  readonly cpus: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly arch: string
  readonly node: string
  readonly engine: string
  /** A write of 4 KiB and its sync, where the labs lie. */
  readonly syncMs: number
  /** Of one minute, before the bench began: what else went on. */
  readonly loadBefore: number
}

const SYNCS = 50

function syncMs(directory: string): number {
  const path = join(directory, `sync-${process.pid}`)
  const file = openSync(path, 'w')
  const block = Buffer.alloc(4096, 1)
  const tookMs = Array.from({ length: SYNCS }, () => {
    const startedMs = performance.now()
    writeSync(file, block)
    fdatasyncSync(file)
    return performance.now() - startedMs
  })
  closeSync(file)
  rmSync(path)
  return Number(sampleOf(tookMs).median.toFixed(3))
}

export async function describeMachine(options: {
  readonly directory: string
  readonly engineSocket: string
  readonly loadBefore: number
}): Promise<Machine> {
  const version = JSON.parse((await callApi(options.engineSocket, { path: '/version' })).body) as { Version: string }
  return {
    cpu: (cpus()[0]?.model ?? 'unknown').trim(),
    cpus: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    arch: arch(),
    node: process.version,
    engine: version.Version,
    syncMs: syncMs(options.directory),
    loadBefore: options.loadBefore,
  }
}

export const loadNow = (): number => Number((loadavg()[0] ?? 0).toFixed(2))

/** `2cpu-24gib-amd-epyc`: names the results of machines alike. */
export function machineName({ cpu, cpus: count, memoryGiB }: Machine): string {
  const model = cpu
    .toLowerCase()
    .replaceAll(/\(.*?\)|@.*|processor|cpu/g, '')
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
  return `${count}cpu-${memoryGiB}gib-${model || 'unknown'}`
}

/** The commit that is measured, with `+` where the tree differs from it. */
export async function gitRevision(): Promise<string> {
  const head = await run(['git', 'rev-parse', '--short', 'HEAD'])
  if (head.code !== 0) return 'unknown'
  const changed = await run(['git', 'status', '--porcelain', '--', 'src', 'package-lock.json'])
  return `${head.stdout.trim()}${changed.stdout.trim() === '' ? '' : '+'}`
}
