// Checks the documents of docs/api with third-party tools. Comes in: the documents, and the JSON blocks of
// docs/protocol.md. Goes out: whether the documents are valid, and whether the blocks match the schema. Deliberately
// absent: a server.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

import { Parser } from '@asyncapi/parser'
import { Validator } from '@seriousme/openapi-schema-validator'
import Ajv2020 from 'ajv/dist/2020.js'

const docs = new URL('../../docs/', import.meta.url)
const text = (name) => readFile(new URL(name, docs), 'utf8')

test('the OpenAPI document is valid', async () => {
  const document = JSON.parse(await text('api/openapi.json'))
  const { valid, errors } = await new Validator().validate(document)
  assert.ok(valid, JSON.stringify(errors, null, 2))
})

test('no schema of the OpenAPI document is a bare object', async () => {
  const { components } = JSON.parse(await text('api/openapi.json'))
  // `Done` is the answer of operations that return nothing.
  const empty = new Set(['Done'])
  for (const [name, schema] of Object.entries(components.schemas)) {
    if (schema.type !== 'object' || empty.has(name)) continue
    assert.ok(schema.properties || schema.additionalProperties || schema.allOf, `${name} says nothing`)
  }
})

test('the AsyncAPI document is valid', async () => {
  const { document, diagnostics } = await new Parser().parse(await text('api/asyncapi.json'))
  const errors = diagnostics.filter(({ severity }) => severity === 0)
  assert.deepEqual(errors, [])
  assert.ok(document)
  assert.ok(document.operations().all().length > 20)
})

/** The named JSON blocks of docs/protocol.md, for instance `request:join`. */
function * blocks (markdown) {
  for (const [, label, body] of markdown.matchAll(/^```json (\S+)\n([\s\S]*?)^```$/gm)) {
    yield [label, JSON.parse(body)]
  }
}

test('the JSON Schema is valid, and every block of the protocol is as it says', async () => {
  const schema = JSON.parse(await text('api/schema.json'))
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  assert.ok(ajv.validateSchema(schema), ajv.errorsText())
  ajv.addSchema(schema, 'lianmai')
  const is = (name, value) => {
    const validate = ajv.compile({ $ref: `lianmai#/$defs/${name}` })
    assert.ok(validate(value), `${name}: ${ajv.errorsText(validate.errors)}\n${JSON.stringify(value)}`)
  }
  const suffixes = { request: 'Request', result: 'Answer', event: 'Event', notice: 'Notice' }
  let count = 0
  for (const [label, value] of blocks(await text('protocol.md'))) {
    const [kind, name] = label.split(':')
    if (kind in suffixes) is(`${name}${suffixes[kind]}`, value)
    else if (kind === 'error') is('refusal', value)
    else continue
    is(kind === 'request' ? 'clientFrame' : 'serverFrame', value)
    count += 1
  }
  assert.ok(count > 50, `only ${count} blocks`)
  // The whole schema takes the body of a webhook, too.
  const webhook = { id: 'evt_1', type: 'channelOpened', at: 1, appkey: 'demo', channelName: 'room', cid: '1', seq: 1, data: {} }
  for (const body of [webhook, { id: 'ping_1', type: 'ping', at: 1, appkey: 'demo', data: {} }]) {
    is('webhookEvent', body)
    assert.ok(ajv.getSchema('lianmai')(body), body.type)
  }
  const wrong = { jsonrpc: '2.0', id: 1, method: 'kick', params: { durationS: 60 } }
  assert.ok(!ajv.compile({ $ref: 'lianmai#/$defs/kickRequest' })(wrong), 'a uid is needed')
})
