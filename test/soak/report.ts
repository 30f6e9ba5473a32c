/** docs/soak.md: what the last soak of each kind found, a section each, written where it passed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from '../../lab/layout.ts'

const FILE = join(projectRoot, 'docs/soak.md')
const HEAD = `# The last soak

What \`make soak\` found when it last passed. The machine has two cores for everything: all hosts, their engines and containers,
and the clients. Times are what a client saw.
`

/** Puts the section in the place of the one with its heading, or at the end. */
export function reportSection(heading: string, text: string): void {
  const old = existsSync(FILE) ? readFileSync(FILE, 'utf8') : ''
  const sections = new Map(
    old
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf('\n')), section.slice(section.indexOf('\n')).trim()]),
  )
  sections.set(heading, text.trim())
  writeFileSync(FILE, [HEAD, ...[...sections].map(([name, body]) => `## ${name}\n\n${body}\n`)].join('\n'))
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
