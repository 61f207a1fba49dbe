"""Reads the input of an operation of AWS as its command line does: exits with what is wrong with it.

aws.py SERVICE OPERATION FILE
"""

import json
import sys

import botocore.session
import botocore.validate

service, operation, file = sys.argv[1:]
with open(file, encoding="utf-8") as opened:
    given = json.load(opened)
shape = botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape
report = botocore.validate.ParamValidator().validate(given, shape)
sys.exit(report.generate_report() or None)
