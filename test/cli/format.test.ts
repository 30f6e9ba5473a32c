// The --format engine: what docker 28.2.2 prints for the templates of format-cases.ts (golden/templates.json), and what
// it leaves to the table writer.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { goString, layoutJson } from '../../src/cli/format/json.ts'
import { compileFormat } from '../../src/cli/format/render.ts'
import { TemplateError } from '../../src/cli/format/template-error.ts'
import { renderListing, row } from '../../src/cli/output/listing.ts'
import { alignColumns, displayWidth, ellipsis, LISTING } from '../../src/cli/output/table.ts'
import { decodeStruct, encode } from '../../src/cli/shapes/shape.ts'
import { nodeShape, serviceShape } from '../../src/cli/shapes/swarm.ts'
import { templates } from './format-cases.ts'

const folder = join(process.cwd(), 'test/cli/golden')
const golden = JSON.parse(readFileSync(join(folder, 'templates.json'), 'utf8')) as Record<string, string>
const service = JSON.parse(readFileSync(join(folder, 'base-service.json'), 'utf8')) as Record<string, unknown>

t.test('templates print what docker prints, errors included', async (t) => {
  for (const template of templates) {
    let printed: string
    try {
      printed = `${compileFormat(template).render(decodeStruct(serviceShape, service))}\n`
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error
      printed = `template parsing error: ${error.message}\n`
    }
    t.equal(printed, golden[template], template)
  }
})

const rows = [
  row('*x.xContext', { ID: 'id1', Name: 'web', Self: true }, { Label: (name) => `label ${name}` }),
  row('*x.xContext', { ID: 'id2', Name: 'a-much-longer-name', Self: false }),
]
const listing = {
  format: '',
  quiet: false,
  table: '{{.ID}}\t{{.Name}}',
  headers: { ID: 'ID', Name: 'NAME', Self: '' },
  rows,
}

t.test('a listing is a table by default, its columns at least ten wide', async (t) => {
  t.equal(renderListing(listing), 'ID        NAME\nid1       web\nid2       a-much-longer-name\n')
})

t.test('quiet lists ids, unless a format is asked for', async (t) => {
  t.equal(renderListing({ ...listing, quiet: true }), 'id1\nid2\n')
  t.equal(renderListing({ ...listing, quiet: true, format: '{{.Name}}' }), 'web\na-much-longer-name\n')
})

t.test('a table of the user has the same header, its functions applied to the rows only', async (t) => {
  t.equal(
    renderListing({ ...listing, format: 'table {{upper .Name}}\\t{{.ID}}' }),
    'NAME                 ID\nWEB                  id1\nA-MUCH-LONGER-NAME   id2\n',
  )
})

t.test('json prints a line for each row, keys in order', async (t) => {
  t.equal(renderListing({ ...listing, format: 'json' }).split('\n')[0], '{"ID":"id1","Name":"web","Self":true}')
})

t.test('a column is as wide as its widest cell over the lines that have it', async (t) => {
  t.equal(
    alignColumns('a\tb\tc\nlong cell\tx\nno cells\nq\tr\ts', LISTING),
    ['a           b         c', 'long cell   x', 'no cells', 'q         r         s'].join('\n'),
  )
})

t.test('wide characters take two columns', async (t) => {
  t.equal(displayWidth('日本'), 4)
  t.equal(ellipsis('日本語日本語', 6), '日本…')
  t.equal(ellipsis('short', 6), 'short')
  t.equal(ellipsis('exactly', 7), 'exactly')
  t.equal(ellipsis('one too many', 11), 'one too ma…')
})

t.test(
  'an object is written as Go writes the struct: its order, without what is empty, times without trailing zeros',
  async (t) => {
    const json = {
      Status: { Addr: '1.2.3.4', State: 'ready' },
      Unknown: 1,
      UpdatedAt: '2026-01-02T03:04:05.120000000Z',
      CreatedAt: '2026-01-02T03:04:05.000000000Z',
      ID: 'n',
      Spec: { Role: 'worker', Labels: { b: '<', a: '1' } },
      Version: { Index: 3 },
    }
    t.equal(
      encode(nodeShape, json, true),
      '{"ID":"n","Version":{"Index":3},"CreatedAt":"2026-01-02T03:04:05Z","UpdatedAt":"2026-01-02T03:04:05.12Z",' +
        '"Spec":{"Labels":{"a":"1","b":"\\u003c"},"Role":"worker"},"Description":{"Platform":{},"Resources":{},' +
        '"Engine":{},"TLSInfo":{}},"Status":{"State":"ready","Addr":"1.2.3.4"}}',
    )
  },
)

t.test('indenting leaves the text of values alone', async (t) => {
  const text = '{"a":"x:,{}\\u003c \\"q\\"","b":[],"c":{},"10":1.50,"2":[1,{"d":null}]}'
  t.equal(
    layoutJson(text, ' '),
    [
      '{',
      ' "a": "x:,{}\\u003c \\"q\\"",',
      ' "b": [],',
      ' "c": {},',
      ' "10": 1.50,',
      ' "2": [',
      '  1,',
      '  {',
      '   "d": null',
      '  }',
      ' ]',
      '}',
    ].join('\n'),
  )
  t.equal(layoutJson(layoutJson(text, '    '), ''), text.replace(/\s(?=[^"]*$)/g, ''))
})

t.test('strings are escaped as Go escapes them', async (t) => {
  t.equal(goString('a\u2028<&>\x01\n"'), '"a\\u2028<&>\\u0001\\n\\""')
  t.equal(goString('<&>', true), '"\\u003c\\u0026\\u003e"')
})
